package cli

import (
	"os"

	"golang.org/x/term"
)

// A color is how a terminal shows a text that stands out. Colour only repeats what the words say.
type color string

// The colours, as what a terminal obeys.
const (
	plain  color = ""
	red    color = "31" // trouble
	yellow color = "33" // waiting
)

// colored reports whether output has colours: it goes to a terminal, for people, and nobody has said no.
func colored(s *session) bool {
	f, ok := s.out.stdout.(*os.File)
	return ok && mayColor(s) && term.IsTerminal(int(f.Fd()))
}

// mayColor reports whether nobody has said no: by -no-color, by NO_COLOR (no-color.org) or VAULT_CLI_NO_COLOR, or by a
// terminal that has none.
func mayColor(s *session) bool {
	get := s.env.Getenv
	return s.out.format == "table" && !s.out.noColor && get("NO_COLOR") == "" && get("VAULT_CLI_NO_COLOR") == "" && get("TERM") != "dumb"
}

// paint colours each line of a text for which a colour is given.
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
