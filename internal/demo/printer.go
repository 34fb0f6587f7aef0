package demo

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A printer prints one line for each event, with the time since the start and the part that it is
// about.
type printer struct {
	start   time.Time
	colours bool
	gone    func() // called when the output is closed; may be nil

	mu sync.Mutex // guards w, so that lines do not mix
	w  io.Writer
}

func newPrinter(w io.Writer) *printer {
	return &printer{w: w, start: time.Now(), colours: coloured(w)}
}

// coloured reports whether w is a terminal and colours are not switched off.
func coloured(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || runtime.GOOS == "windows" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	blue   = "34"
	purple = "35"
	cyan   = "36"
)

// shades maps each part of the demo to its colour.
var shades = map[string]string{"server": blue, "key": yellow, "provider": purple, "consumer": green, "database": cyan}

// paint pads text to width characters and colours it.
func (p *printer) paint(colour, text string, width int) string {
	text += strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
	if !p.colours || colour == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// say prints an event of one part of the demo.
func (p *printer) say(who, format string, args ...any) {
	when := fmt.Sprintf("%6.2f s", time.Since(p.start).Seconds())
	p.write(strings.TrimRight(
		fmt.Sprintf("%s  %s %s", p.paint(faint, when, 0), p.paint(shades[who], who, 9), fmt.Sprintf(format, args...)),
		" ") + "\n")
}

// chapter prints the title of a section.
func (p *printer) chapter(title string) {
	p.write("\n" + p.paint(bold, title, 0) + "\n\n")
}

// plain prints text unchanged.
func (p *printer) plain(format string, args ...any) {
	p.write(fmt.Sprintf(format, args...))
}

func (p *printer) write(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := io.WriteString(p.w, text); err != nil && p.gone != nil {
		p.gone()
	}
}

// A row is a row of the final table.
type row struct {
	what string
	seen int
	want string
	good bool
	note string
}

// exactly returns a row with one right value.
func exactly(what string, seen, want int, note string) row {
	return row{what, seen, fmt.Sprint(want), seen == want, note}
}

// atLeast returns a row with a minimum.
func atLeast(what string, seen, least int, note string) row {
	return row{what, seen, fmt.Sprintf("%d or more", least), seen >= least, note}
}

// table prints the rows, and returns the names of the wrong ones.
func (p *printer) table(rows []row) (wrong []string) {
	var b strings.Builder
	line := func(colour, verdict, what, seen, want, note string) {
		fmt.Fprintf(&b, "  %-27s %8s   %-14s  %s  %s\n", what, seen, want, p.paint(colour, verdict, 5), note)
	}
	line(bold, "", "", "seen", "expected", "")
	for _, r := range rows {
		if r.good {
			line(green, "ok", r.what, fmt.Sprint(r.seen), r.want, r.note)
			continue
		}
		line(red, "WRONG", r.what, fmt.Sprint(r.seen), r.want, r.note)
		wrong = append(wrong, fmt.Sprintf("%s: %d, want %s", r.what, r.seen, r.want))
	}
	text := b.String()
	for strings.Contains(text, " \n") {
		text = strings.ReplaceAll(text, " \n", "\n")
	}
	p.write(text)
	return wrong
}
