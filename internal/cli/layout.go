package cli

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// table formats rows below a header and dashes, as Vault does. An empty cell is n/a.
func table(header []string, rows [][]string) string {
	all := [][]string{make([]string, len(header)), make([]string, len(header))}
	for i, h := range header {
		h = printable(h)
		all[0][i], all[1][i] = h, strings.Repeat("-", utf8.RuneCountInString(h))
	}
	for _, row := range rows {
		filled := make([]string, len(row))
		for i, cell := range row {
			filled[i] = printable(cell)
			if strings.TrimSpace(cell) == "" {
				filled[i] = "n/a"
			}
		}
		all = append(all, filled)
	}
	return columns(all)
}

// printable escapes characters that control a terminal, because others may have chosen the text.
// It escapes control characters except tabs and line ends, and those that change the direction of
// text.
func printable(text string) string {
	controls := func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
	}
	if !strings.ContainsFunc(text, controls) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if controls(r) {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// columns aligns rows, with four spaces between the columns.
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

// section returns body under a heading between equal signs, which is as wide as its first line.
func section(heading, body string) string {
	line, _, _ := strings.Cut(body, "\n")
	signs := strings.Repeat("=", max(2, (utf8.RuneCountInString(line)-len(heading)-1)/2))
	return signs + " " + printable(heading) + " " + signs + "\n" + body
}

// indent puts prefix before the first line of text and the same width of spaces before the others.
// The result ends with a line end.
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

// wrap breaks text at spaces into lines of at most width bytes.
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
