package cli

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// table is rows under a header and dashes, as Vault prints them. An empty cell
// reads n/a.
func table(header []string, rows [][]string) string {
	all := [][]string{make([]string, len(header)), make([]string, len(header))}
	for i, h := range header {
		h = harmless(h)
		all[0][i], all[1][i] = h, strings.Repeat("-", utf8.RuneCountInString(h))
	}
	for _, row := range rows {
		filled := make([]string, len(row))
		for i, cell := range row {
			filled[i] = harmless(cell)
			if strings.TrimSpace(cell) == "" {
				filled[i] = "n/a"
			}
		}
		all = append(all, filled)
	}
	return columns(all)
}

// harmless is text without what a terminal obeys: others than the one who reads
// it may have written it. Control characters but for tabs and line ends, and
// those that turn the direction of text, are shown as Go writes them.
func harmless(text string) string {
	obeyed := func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
	}
	if !strings.ContainsFunc(text, obeyed) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if obeyed(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// columns lines rows up with four spaces between the columns.
func columns(rows [][]string) string {
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+4))
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// section is a heading between equal signs, as wide as the first line of what
// stands under it.
func section(heading, body string) string {
	line, _, _ := strings.Cut(body, "\n")
	signs := strings.Repeat("=", max(2, (utf8.RuneCountInString(line)-len(heading)-1)/2))
	return signs + " " + harmless(heading) + " " + signs + "\n" + body
}

// indent puts prefix before the first line of text and as much space before the
// others, and ends it with a line's end.
func indent(text, prefix string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line != "\n" {
			b.WriteString(prefix)
		}
		b.WriteString(line)
		prefix = strings.Repeat(" ", len(prefix))
	}
	if !strings.HasSuffix(text, "\n") {
		b.WriteByte('\n')
	}
	return b.String()
}

// wrap breaks text at spaces so that lines have at most width letters.
func wrap(text string, width int) string {
	var b strings.Builder
	room := width
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case len(word)+1 > room:
			b.WriteByte('\n')
			room = width
		default:
			b.WriteByte(' ')
			room--
		}
		b.WriteString(word)
		room -= len(word)
	}
	return b.String()
}
