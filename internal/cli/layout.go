package cli

import (
	"strings"
	"unicode/utf8"
)

// table is rows under a header and dashes, as Vault prints them. An empty cell
// reads n/a.
func table(header []string, rows [][]string) string {
	all := [][]string{header, make([]string, len(header))}
	for i, h := range header {
		all[1][i] = strings.Repeat("-", utf8.RuneCountInString(h))
	}
	for _, row := range rows {
		filled := make([]string, len(row))
		for i, cell := range row {
			filled[i] = cell
			if strings.TrimSpace(cell) == "" {
				filled[i] = "n/a"
			}
		}
		all = append(all, filled)
	}
	return columns(all)
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
	return signs + " " + heading + " " + signs + "\n" + body
}
