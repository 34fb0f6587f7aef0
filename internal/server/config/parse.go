package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/hcl/ast"
	hclparser "github.com/hashicorp/hcl/hcl/parser"
	"github.com/hashicorp/hcl/hcl/token"
	jsonparser "github.com/hashicorp/hcl/json/parser"

	"github.com/keyturn/keyturn/internal/wire"
)

// maxFile is more than any honest configuration; the parser is not made for
// hostile ones.
const maxFile = 1 << 20

// A parser gathers one configuration, and all that is wrong with it, from
// several files.
type parser struct {
	known    Known
	config   Server
	problems Problems
	path     string              // of the file that is being read
	text     []byte              // what is in it
	order    map[string]int      // of the files, for sorting problems
	set      map[string]Position // where a key of the top level was given
	seals    int
}

func newParser(known Known) *parser {
	return &parser{known: known, config: Server{LogFormat: "text"}, order: map[string]int{}, set: map[string]Position{}}
}

func (p *parser) problem(at Position, format string, args ...any) {
	p.problems = append(p.problems, Problem{at, fmt.Sprintf(format, args...)})
}

func (p *parser) warn(at Position, format string, args ...any) {
	p.config.Warnings = append(p.config.Warnings, at.String()+": "+fmt.Sprintf(format, args...))
}

// at is where a node stands. The library does not know it in JSON: there the
// name of a member is looked for, which tells if it is there once.
func (p *parser) at(n ast.Node) Position {
	line := n.Pos().Line
	if item, ok := n.(*ast.ObjectItem); ok && line == 0 && len(item.Keys) > 0 {
		name := []byte(item.Keys[0].Token.Text)
		if bytes.Count(p.text, name) == 1 {
			line = lineAt(p.text, bytes.Index(p.text, name))
		}
	}
	return Position{p.path, line}
}

func lineAt(text []byte, offset int) int {
	return 1 + bytes.Count(text[:min(offset, len(text))], []byte("\n"))
}

// tree parses HCL or JSON. The library takes JSON that is none, so that is
// checked first. It finds keys that are given twice, but members says it better.
func (p *parser) tree(text []byte) (*ast.File, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return hclparser.ParseDontErrorOnDuplicateKeys(text)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return nil, err
	}
	return jsonparser.Parse(text)
}

// file reads one file's text.
func (p *parser) file(path string, text []byte) {
	p.path, p.text, p.order[path] = path, text, len(p.order)
	if len(text) > maxFile {
		p.problem(Position{File: path}, "it is larger than %d bytes; split it, or check that it is the right file", maxFile)
		return
	}
	// The library panics on some texts that are no HCL.
	defer func() {
		if recover() != nil {
			p.problem(Position{File: path}, "it is not well-formed HCL or JSON; check its brackets and quotes")
		}
	}()
	f, err := p.tree(text)
	if err != nil {
		p.syntax(path, err)
		return
	}
	root, ok := f.Node.(*ast.ObjectList)
	if !ok {
		p.problem(Position{File: path}, "it is not well-formed HCL or JSON; check its brackets and quotes")
		return
	}
	p.top(root)
}

func (p *parser) syntax(path string, err error) {
	if pe, ok := errors.AsType[*hclparser.PosError](err); ok {
		p.problem(Position{path, pe.Pos.Line}, "%v", pe.Err)
		return
	}
	if se, ok := errors.AsType[*json.SyntaxError](err); ok {
		p.problem(Position{path, lineAt(p.text, int(se.Offset))}, "%v", se)
		return
	}
	p.problem(Position{File: path}, "%v", err)
}

// finish checks what was gathered as a whole.
func (p *parser) finish() (*Server, error) {
	p.whole()
	if len(p.problems) > 0 {
		slices.SortStableFunc(p.problems, func(a, b Problem) int {
			return cmp.Or(cmp.Compare(p.rank(a.At.File), p.rank(b.At.File)), cmp.Compare(a.At.Line, b.At.Line))
		})
		return nil, slices.Compact(p.problems)
	}
	return &p.config, nil
}

// rank puts what belongs to no file last.
func (p *parser) rank(file string) int {
	if n, ok := p.order[file]; ok {
		return n
	}
	return len(p.order)
}

// A setter takes one member of a block.
type setter func(item *ast.ObjectItem)

// members gives each member of a block to its setter, and complains of those
// that have none and of those that come twice. where names the block.
func (p *parser) members(list *ast.ObjectList, where string, setters map[string]setter) {
	seen := map[string]bool{}
	for _, item := range list.Items {
		name := key(item, 0)
		set, ok := setters[name]
		switch {
		case !ok:
			p.problem(p.at(item), "unknown key %q in %s; known are: %s", name, where, strings.Join(slices.Sorted(maps.Keys(setters)), ", "))
		case seen[name]:
			p.problem(p.at(item), "%s: it is given twice in %s; take one out", name, where)
		default:
			set(item)
		}
		seen[name] = true
	}
}

// key is the nth key of an item: its name, then its labels.
func key(item *ast.ObjectItem, n int) string {
	if n >= len(item.Keys) {
		return ""
	}
	if s, ok := item.Keys[n].Token.Value().(string); ok {
		return s
	}
	return item.Keys[n].Token.Text
}

// A labelled block: listener "tcp" { … }.
type labelled struct {
	at    Position
	label string
	list  *ast.ObjectList
}

// blocks returns the labelled blocks that an item holds: one in HCL, in JSON
// perhaps several.
func (p *parser) blocks(item *ast.ObjectItem) []labelled {
	object, ok := item.Val.(*ast.ObjectType)
	name := key(item, 0)
	switch {
	case !ok || len(item.Keys) > 2:
		p.problem(p.at(item), "%s: want a block with one label, such as %s", name, examples[name])
		return nil
	case len(item.Keys) == 2:
		return []labelled{{p.at(item), key(item, 1), object.List}}
	}
	var all []labelled
	for _, inner := range object.List.Items {
		body, ok := inner.Val.(*ast.ObjectType)
		if !ok || len(inner.Keys) != 1 {
			p.problem(p.at(inner), "%s: want a block with one label, such as %s", name, examples[name])
			continue
		}
		all = append(all, labelled{p.at(inner), key(inner, 0), body.List})
	}
	if len(object.List.Items) == 0 {
		p.problem(p.at(item), "%s: want a block with one label, such as %s", name, examples[name])
	}
	return all
}

var examples = map[string]string{
	"listener": `listener "tcp" { address = "127.0.0.1:8200" }`,
	"storage":  `storage "pebble" { path = "/var/lib/keyturn" }`,
	"seal":     `seal "shamir" {}`,
}

// literal is a member's value as text, and what kind of literal it was.
func (p *parser) literal(item *ast.ObjectItem) (string, token.Type, bool) {
	lit, ok := item.Val.(*ast.LiteralType)
	if ok && len(item.Keys) == 1 {
		switch v := lit.Token.Value().(type) {
		case string:
			return v, lit.Token.Type, true
		case int64:
			return strconv.FormatInt(v, 10), lit.Token.Type, true
		case float64:
			return strconv.FormatFloat(v, 'g', -1, 64), lit.Token.Type, true
		case bool:
			return strconv.FormatBool(v), lit.Token.Type, true
		}
	}
	p.problem(p.at(item), "%s: want one value, not a block or a list", key(item, 0))
	return "", token.ILLEGAL, false
}

// words sets a string.
func (p *parser) words(into *string) setter {
	return func(item *ast.ObjectItem) {
		text, kind, ok := p.literal(item)
		if ok && kind != token.STRING && kind != token.HEREDOC {
			p.problem(p.at(item), "%s: want text in quotes", key(item, 0))
			return
		}
		*into = text
	}
}

// truth sets a boolean, which may stand in quotes.
func (p *parser) truth(into *bool) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := p.literal(item)
		if !ok {
			return
		}
		b, err := strconv.ParseBool(text)
		if err != nil {
			p.problem(p.at(item), "%s: want true or false, not %q", key(item, 0), text)
		}
		*into = b
	}
}

// duration sets a time: a number of seconds, or text such as "1h30m".
func (p *parser) duration(into *time.Duration) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := p.literal(item)
		if !ok {
			return
		}
		d, err := wire.ParseDuration(text)
		if err != nil || d < time.Second {
			p.problem(p.at(item), `%s: want a duration of at least a second such as "1h30m" or a number of seconds, not %q`, key(item, 0), text)
		}
		*into = d
	}
}

// size sets a positive number of bytes.
func (p *parser) size(into *int64) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := p.literal(item)
		if !ok {
			return
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n <= 0 {
			p.problem(p.at(item), "%s: want a positive number, not %q", key(item, 0), text)
		}
		*into = n
	}
}

// listOf sets a list, each element read from its text. want says what an element is, as in: an address such as "10.1.0.0".
func listOf[T any](p *parser, into *[]T, want, example string, read func(text string) (T, bool)) setter {
	return func(item *ast.ObjectItem) {
		list, ok := item.Val.(*ast.ListType)
		if !ok {
			p.problem(p.at(item), "%s: want a list such as %s", key(item, 0), example)
			return
		}
		for _, node := range list.List {
			var text string
			if lit, ok := node.(*ast.LiteralType); ok {
				text, _ = lit.Token.Value().(string)
			}
			one, ok := read(text)
			if !ok {
				p.problem(p.at(node), "%s: want %s, not %q", key(item, 0), want, text)
				continue
			}
			*into = append(*into, one)
		}
	}
}

// prefixes sets a list of addresses and networks.
func (p *parser) prefixes(into *[]netip.Prefix) setter {
	return listOf(p, into, `an address or a network such as "10.1.0.0/16"`, `["127.0.0.1", "10.1.0.0/16"]`, func(text string) (netip.Prefix, bool) {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			var addr netip.Addr
			addr, err = netip.ParseAddr(text)
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		return prefix.Masked(), err == nil
	})
}

// folders sets a list of folders of this machine. The root would be all of it.
func folders(p *parser, into *[]string) setter {
	return listOf(p, into, `a folder's absolute path, and not the root, such as "/var/log/keyturn"`, `["/var/log/keyturn"]`, func(text string) (string, bool) {
		path := filepath.Clean(text)
		return path, filepath.IsAbs(path) && path != filepath.Dir(path)
	})
}

func asPathError(err error) (error, bool) {
	pe, ok := errors.AsType[*fs.PathError](err)
	if !ok {
		return nil, false
	}
	return pe.Err, true
}
