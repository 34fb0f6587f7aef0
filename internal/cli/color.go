package cli

import (
	"os"

	"golang.org/x/term"
)

// A color highlights text in a terminal. A colour only repeats what the words say.
type color string

// The colours, as parameters of the terminal's escape sequence.
const (
	plain  color = ""
	red    color = "31" // needs attention
	yellow color = "33" // waits, or is paused
)

// useColor reports whether to print colours: standard output is a terminal, and colours are
// allowed.
func useColor(s *session) bool {
	f, ok := s.out.stdout.(*os.File)
	return ok && colorAllowed(s) && term.IsTerminal(int(f.Fd()))
}

// colorAllowed reports whether colours are not switched off by -no-color, NO_COLOR (no-color.org)
// or VAULT_CLI_NO_COLOR, and the terminal has colours.
func colorAllowed(s *session) bool {
	get := s.env.Getenv
	return s.out.format == "table" && !s.out.noColor &&
		get("NO_COLOR") == "" && get("VAULT_CLI_NO_COLOR") == "" && get("TERM") != "dumb"
}

// paint joins lines, each in the colour at the same index.
func paint(lines []string, colors []color) string {
	var b []byte
	for i, line := range lines {
		if i < len(colors) && colors[i] != plain {
			line = "\x1b[" + string(colors[i]) + "m" + line + "\x1b[0m"
		}
		b = append(append(b, line...), '\n')
	}
	return string(b)
}
