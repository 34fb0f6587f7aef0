package password

import (
	"fmt"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
)

const op = "password.Parse"

// Parse reads a policy in Vault's form, HCL or JSON: length, and rule "charset"
// blocks with charset and min-chars. What it does not know is an error.
func Parse(text string) (*Policy, error) {
	list, err := policy.ReadText(op, text, maxText)
	if err != nil {
		return nil, err
	}
	p := &Policy{}
	for _, item := range list.Items {
		if err := p.read(item); err != nil {
			return nil, err
		}
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	p.unite()
	return p, nil
}

// bad names the line; line 0 stands for the whole.
func bad(line int, format string, args ...any) error {
	why := fmt.Sprintf(format, args...)
	if line > 0 {
		why = fmt.Sprintf("line %d: %s", line, why)
	}
	return fault.New(op, fault.Invalid, "field \"policy\": %s", why)
}

func key(item *ast.ObjectItem, i int) string {
	if i >= len(item.Keys) {
		return ""
	}
	s, _ := item.Keys[i].Token.Value().(string)
	return s
}

// read takes one top-level item.
func (p *Policy) read(item *ast.ObjectItem) error {
	line := item.Pos().Line
	switch name := key(item, 0); {
	case name == "length" && len(item.Keys) == 1:
		if hcl.DecodeObject(&p.length, item.Val) != nil || p.length < minLength || p.length > maxLength {
			return bad(line, "length must be a number from %d to %d", minLength, maxLength)
		}
		return nil
	case name != "rule":
		return bad(line, "unknown key %.100q; there are length and rule", name)
	}
	obj, ok := item.Val.(*ast.ObjectType)
	switch {
	case !ok || len(item.Keys) > 2:
		return bad(line, "want rule \"charset\" { … }")
	case len(item.Keys) == 2:
		return p.rule(key(item, 1), line, obj)
	}
	for _, kind := range obj.List.Items { // as JSON has it: {"rule": {"charset": {…}}}
		inner, ok := kind.Val.(*ast.ObjectType)
		if !ok || len(kind.Keys) != 1 {
			return bad(kind.Pos().Line, "want rule \"charset\" { … }")
		}
		if err := p.rule(key(kind, 0), kind.Pos().Line, inner); err != nil {
			return err
		}
	}
	return nil
}

// rule reads one rule's block.
func (p *Policy) rule(kind string, line int, block *ast.ObjectType) error {
	if kind != "charset" {
		return bad(line, "unknown rule %.100q; there is \"charset\"", kind)
	}
	var r rule
	seen := map[string]bool{}
	for _, attr := range block.List.Items {
		name, line := key(attr, 0), attr.Pos().Line
		if name == "min_chars" {
			name = "min-chars"
		}
		if seen[name] {
			return bad(line, "%.100q is given twice", name)
		}
		seen[name] = true
		switch name {
		case "charset":
			var s string
			if !literal(attr) || hcl.DecodeObject(&s, attr.Val) != nil || !charset(s) {
				return bad(line, "charset must be a text of 1 to %d printable characters", maxCharset)
			}
			r.charset = []rune(s)
			slices.Sort(r.charset)
			r.charset = slices.Compact(r.charset)
		case "min-chars":
			if !literal(attr) || hcl.DecodeObject(&r.min, attr.Val) != nil || r.min < 0 || r.min > maxLength {
				return bad(line, "min-chars must be a number from 0 to %d", maxLength)
			}
		default:
			return bad(line, "unknown key %.100q; there are charset and min-chars", name)
		}
	}
	if len(r.charset) == 0 {
		return bad(line, "charset is missing")
	}
	p.rules = append(p.rules, r)
	return nil
}

func literal(item *ast.ObjectItem) bool {
	_, ok := item.Val.(*ast.LiteralType)
	return ok && len(item.Keys) == 1
}

// charset reports whether passwords may be made of s. A space is printable, as
// are letters of any script; what is not shown, or joins others, is not.
func charset(s string) bool {
	n := utf8.RuneCountInString(s)
	for _, c := range s {
		if !unicode.IsPrint(c) || unicode.IsMark(c) || c == utf8.RuneError {
			return false
		}
	}
	return n > 0 && n <= maxCharset
}

// check refuses what no password can satisfy.
func (p *Policy) check() error {
	if p.length == 0 {
		return bad(0, "length is missing; it must be from %d to %d", minLength, maxLength)
	}
	if len(p.rules) == 0 {
		return bad(0, "at least one rule \"charset\" is needed")
	}
	need := 0
	for _, r := range p.rules {
		need += r.min
	}
	if need > p.length {
		return bad(0, "the rules demand %d characters together, and length is %d", need, p.length)
	}
	return nil
}
