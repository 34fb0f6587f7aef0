package file

import (
	"bytes"
	"encoding/json"
	"io"

	"github.com/keyturn/keyturn/internal/audit"
)

// An end describes the end of a file.
type end struct {
	line []byte // the last whole line; nil if there is none
	torn int    // bytes after it
	open bool   // these do not end in a newline
	ours bool   // the file is an audit file
}

// readEnd finds the last whole line of a file of the given size, first near the end, then further
// back, because lines may be long.
func readEnd(r io.ReaderAt, size int64) (end, error) {
	if size == 0 {
		return end{ours: true}, nil
	}
	for window := int64(64 << 10); ; window *= 8 {
		window = min(window, size, audit.MaxLine)
		text := make([]byte, window)
		if _, err := r.ReadAt(text, size-window); err != nil && err != io.EOF {
			return end{}, err
		}
		e := parseEnd(text, window == size)
		if e.ours || window == size || window == audit.MaxLine {
			return e, nil
		}
	}
}

// parseEnd finds the last whole line in text, which is the end of a file, or with whole, all of
// it.
func parseEnd(text []byte, whole bool) end {
	e := end{open: text[len(text)-1] != '\n'}
	rest := text
	if e.open {
		cut := bytes.LastIndexByte(text, '\n') + 1
		e.torn, rest = len(text)-cut, text[:cut]
	}
	for len(rest) > 0 {
		line := rest[:len(rest)-1]
		from := bytes.LastIndexByte(line, '\n') + 1
		if from == 0 && !whole {
			return e // the line may begin before text
		}
		line = line[from:]
		if _, ok := audit.ParseLine(line); ok {
			e.line, e.ours = bytes.Clone(line), true
			return e
		}
		e.torn += len(line) + 1
		rest = rest[:from]
	}
	e.ours = whole && firstTorn(text)
	return e
}

// firstTorn reports whether text is only the torn first line of a new file.
func firstTorn(text []byte) bool {
	line := bytes.TrimSuffix(text, []byte{'\n'})
	return bytes.IndexByte(line, '\n') < 0 && audit.StartsLine(line) && !json.Valid(line)
}
