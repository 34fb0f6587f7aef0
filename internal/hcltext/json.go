package hcltext

import (
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/token"
)

// readJSON gives JSON the shape that HCL has: an object is a block, a list of
// objects is the block repeated. HCL's own parser of JSON is not used: it moves members of
// nested lists into other blocks, takes keys twice, and knows no lines.
func readJSON(text string, repeated bool) (*ast.ObjectList, *Error) {
	j := jsonReader{text: text, repeated: repeated, dec: json.NewDecoder(strings.NewReader(text))}
	j.dec.UseNumber()
	node, err := j.value()
	if err != nil {
		return nil, err
	}
	if _, err := j.dec.Token(); err != io.EOF {
		return nil, j.bad("something follows the JSON object")
	}
	obj, ok := node.(*ast.ObjectType)
	if !ok {
		return nil, j.bad("want a JSON object")
	}
	return obj.List, nil
}

type jsonReader struct {
	text     string
	repeated bool // a key may be given twice
	dec      *json.Decoder
	depth    int
	at       int // up to where lines are counted
	lines    int
}

// line is where the reader is. Positions only grow, so each line break is
// counted once.
func (j *jsonReader) line() int {
	to := int(j.dec.InputOffset())
	j.lines += strings.Count(j.text[j.at:to], "\n")
	j.at = to
	return j.lines + 1
}

func (j *jsonReader) bad(format string, args ...any) *Error { return bad(j.line(), format, args...) }

func (j *jsonReader) value() (ast.Node, *Error) {
	t, err := j.dec.Token()
	if err != nil {
		return nil, j.bad("it is not valid JSON")
	}
	literal := func(kind token.Type, text string) (ast.Node, *Error) {
		return &ast.LiteralType{
			Token: token.Token{Type: kind, Text: text, JSON: true, Pos: token.Pos{Line: j.line()}},
		}, nil
	}
	switch v := t.(type) {
	case string:
		return literal(token.STRING, strconv.Quote(v))
	case bool:
		return literal(token.BOOL, strconv.FormatBool(v))
	case json.Number:
		if _, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return literal(token.NUMBER, v.String())
		}
		return literal(token.FLOAT, v.String())
	case json.Delim:
		if j.depth++; j.depth > maxDepth {
			return nil, j.bad("it nests deeper than %d levels", maxDepth)
		}
		defer func() { j.depth-- }()
		if v == '[' {
			return j.list()
		}
		return j.object()
	}
	return nil, j.bad("null says nothing; leave the key out")
}

func (j *jsonReader) list() (ast.Node, *Error) {
	list := &ast.ListType{Lbrack: token.Pos{Line: j.line()}}
	for j.dec.More() {
		node, err := j.value()
		if err != nil {
			return nil, err
		}
		list.Add(node)
	}
	return list, j.end()
}

func (j *jsonReader) object() (ast.Node, *Error) {
	obj := &ast.ObjectType{Lbrace: token.Pos{Line: j.line()}, List: &ast.ObjectList{}}
	seen := map[string]bool{}
	for j.dec.More() {
		t, err := j.dec.Token()
		if err != nil {
			return nil, j.bad("it is not valid JSON")
		}
		name, _ := t.(string)
		if seen[name] && !j.repeated {
			return nil, j.bad("the key %.100q is given twice", name)
		}
		seen[name] = true
		key := &ast.ObjectKey{Token: token.Token{
			Type: token.STRING, Text: strconv.Quote(name), JSON: true, Pos: token.Pos{Line: j.line()},
		}}
		node, wrong := j.value()
		if wrong != nil {
			return nil, wrong
		}
		for _, block := range blocks(node) {
			obj.List.Add(&ast.ObjectItem{Keys: []*ast.ObjectKey{key}, Val: block})
		}
	}
	return obj, j.end()
}

// end takes the closing bracket.
func (j *jsonReader) end() *Error {
	if _, err := j.dec.Token(); err != nil {
		return j.bad("it is not valid JSON")
	}
	return nil
}

// blocks are the objects of a list that has nothing else, or the node itself.
func blocks(node ast.Node) []ast.Node {
	list, ok := node.(*ast.ListType)
	if !ok || len(list.List) == 0 {
		return []ast.Node{node}
	}
	for _, e := range list.List {
		if _, ok := e.(*ast.ObjectType); !ok {
			return []ast.Node{node}
		}
	}
	return list.List
}
