package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/scanner"
	"github.com/hashicorp/hcl/hcl/token"

	"github.com/keyturn/keyturn/internal/fault"
)

// maxDepth is how deep a text may nest. A policy needs nine; the parsers recurse
// without a limit of their own, and a deep enough text would end the process.
const maxDepth = 16

// maxWords bounds a message about a text: parsers quote what they read.
const maxWords = 2000

// ReadText parses a policy's text of at most limit bytes, HCL 1 or JSON, and
// returns its top-level items. It refuses what nests too deep and, in both
// forms, a key that is given twice. The error is of kind Invalid, names the
// field "policy" and, where there is one, the line.
func ReadText(op, text string, limit int) (list *ast.ObjectList, err error) {
	defer func() {
		if r := recover(); r != nil {
			list, err = nil, badText(op, "it cannot be parsed; check its brackets and quotes")
		}
	}()
	if len(text) > limit {
		return nil, badText(op, fmt.Sprintf("it is longer than %d bytes", limit))
	}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		if list, err = readJSON(text); err != nil {
			return nil, badText(op, err.Error())
		}
		return list, nil
	}
	if err := checkDepth(text); err != nil {
		return nil, badText(op, err.Error())
	}
	file, err := hcl.Parse(text)
	if pos, ok := errors.AsType[*parser.PosError](err); ok {
		return nil, badText(op, fmt.Sprintf("line %d: %s", pos.Pos.Line, pos.Err))
	}
	if err != nil {
		return nil, badText(op, err.Error())
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, badText(op, "want blocks, not a single value")
	}
	return list, nil
}

func badText(op, why string) error {
	if len(why) > maxWords {
		why = strings.ToValidUTF8(why[:maxWords], "") + " …"
	}
	return fault.New(op, fault.Invalid, "field \"policy\": %s", why)
}

func checkDepth(text string) error {
	s := scanner.New([]byte(text))
	s.Error = func(token.Pos, string) {} // the parser will say it
	for depth := 0; ; {
		switch t := s.Scan(); t.Type {
		case token.EOF:
			return nil
		case token.LBRACE, token.LBRACK:
			if depth++; depth > maxDepth {
				return fmt.Errorf("line %d: it nests deeper than %d levels", t.Pos.Line, maxDepth)
			}
		case token.RBRACE, token.RBRACK:
			depth--
		}
	}
}
