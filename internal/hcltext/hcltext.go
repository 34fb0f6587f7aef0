// Package hcltext reads HCL 1 and JSON as one kind of tree, in which each key and
// value knows its line. Policies and the server's configuration are such texts.
//
// What a text can cost is bounded: its length and how deep it nests. HCL's own
// parser of JSON is not used, see json.go.
package hcltext

import (
	"errors"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/scanner"
	"github.com/hashicorp/hcl/hcl/token"
)

// Options bound a text.
type Options struct {
	MaxBytes int
	// Repeated takes a key that is given twice, and leaves it to the caller to
	// complain; else it is an error.
	Repeated bool
}

// Parse returns the top-level items of a text; a text that begins with a brace is
// JSON. A list of objects is the block repeated.
func Parse(text string, o Options) (list *ast.ObjectList, err *Error) {
	defer func() {
		if r := recover(); r != nil { // HCL's parser panics on some texts
			list, err = nil, bad(0, "it cannot be parsed; check its brackets and quotes")
		}
	}()
	if len(text) > o.MaxBytes {
		return nil, bad(0, "it is longer than %d bytes", o.MaxBytes)
	}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		if list, err = readJSON(text, o.Repeated); err != nil {
			return nil, err
		}
		return list, checkValues(list)
	}
	if err := checkDepth(text); err != nil {
		return nil, err
	}
	if list, err = readHCL(text, o.Repeated); err != nil {
		return nil, err
	}
	return list, checkValues(list)
}

// checkValues refuses what would panic when it is read: HCL takes numbers of any size, and its
// tokens only some.
func checkValues(list *ast.ObjectList) (err *Error) {
	at := token.Token{}
	defer func() {
		if recover() != nil {
			err = bad(at.Pos.Line,
				"%.40q cannot be read as a value; a number must fit 64 bits, and anything else stands in quotes",
				at.Text)
		}
	}()
	ast.Walk(list, func(n ast.Node) (ast.Node, bool) {
		switch n := n.(type) {
		case *ast.LiteralType:
			at = n.Token
			_ = at.Value()
		case *ast.ObjectKey:
			at = n.Token
			_ = at.Value()
		}
		return n, true
	})
	return nil
}

func readHCL(text string, repeated bool) (*ast.ObjectList, *Error) {
	parse := parser.Parse
	if repeated {
		parse = parser.ParseDontErrorOnDuplicateKeys
	}
	file, err := parse([]byte(text))
	if pos, ok := errors.AsType[*parser.PosError](err); ok {
		return nil, bad(pos.Pos.Line, "%s", pos.Err)
	}
	if err != nil {
		return nil, bad(0, "%s", err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, bad(0, "want blocks, not a single value")
	}
	return list, nil
}

func checkDepth(text string) *Error {
	s := scanner.New([]byte(text))
	s.Error = func(token.Pos, string) {} // the parser will say it
	for depth := 0; ; {
		switch t := s.Scan(); t.Type {
		case token.EOF:
			return nil
		case token.LBRACE, token.LBRACK:
			if depth++; depth > maxDepth {
				return bad(t.Pos.Line, "it nests deeper than %d levels", maxDepth)
			}
		case token.RBRACE, token.RBRACK:
			depth--
		}
	}
}
