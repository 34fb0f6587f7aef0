package hcltext

import (
	"fmt"

	"github.com/keyturn/keyturn/internal/fault"
)

// An Error says what is wrong with a text. It is for a person.
type Error struct {
	Line int // 0: the text as a whole
	Text string
}

// Error implements error.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Text
	}
	return fmt.Sprintf("line %d: %s", e.Line, e.Text)
}

func bad(line int, format string, args ...any) *Error {
	return &Error{Line: line, Text: fault.Clip(fmt.Sprintf(format, args...), maxWords)}
}

// maxWords limits a message in bytes, because parsers quote what they read.
const maxWords = 2000

// maxDepth is how deep a text may nest. A policy needs nine; the parsers recurse
// without a limit of their own, and a deep enough text would end the process.
const maxDepth = 16
