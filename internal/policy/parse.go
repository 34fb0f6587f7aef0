package policy

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/wire"
)

// maxProblems is how many problems of one text are reported.
const maxProblems = 20

// shorthands of the old form policy = "read".
var shorthands = map[string]Operation{
	"deny": deny, "read": Read | List, "write": Create | Read | Update | Patch | Delete | List,
	"sudo": Create | Read | Update | Patch | Delete | List | sudo,
}

// Parse parses a policy's text, HCL or JSON. Errors name the line. Unknown items are errors.
func Parse(name, text string) (*Policy, error) {
	const op = "policy.Parse"
	list, err := ReadText(op, text, maxText)
	if err != nil {
		return nil, err
	}
	r := reader{policy: &Policy{Name: name}}
	for _, item := range list.Items {
		r.item(item)
	}
	if n := len(r.problems); n > maxProblems {
		r.problems = append(r.problems[:maxProblems], fmt.Sprintf("and %d more", n-maxProblems))
	}
	if len(r.problems) > 0 {
		return nil, fault.New(op, fault.Invalid, "field \"policy\": %s", strings.Join(r.problems, "; "))
	}
	return r.policy, nil
}

// reader collects a policy, and the problems of its text.
type reader struct {
	policy   *Policy
	problems []string
}

func (r *reader) bad(line int, format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
}

func key(item *ast.ObjectItem, i int) string {
	if i >= len(item.Keys) {
		return ""
	}
	s, _ := item.Keys[i].Token.Value().(string)
	return s
}

// item reads one top-level item.
func (r *reader) item(item *ast.ObjectItem) {
	line := item.Pos().Line
	switch k := key(item, 0); {
	case k == "name" && len(item.Keys) == 1:
		if _, ok := item.Val.(*ast.LiteralType); !ok {
			r.bad(line, "name must be a text")
		}
	case k != "path":
		r.bad(line,
			"unknown key %.100q; a policy has path blocks, such as path \"secret/data/app\" { capabilities = "+
				"[\"read\"] }",
			k)
	case len(item.Keys) == 2:
		r.path(key(item, 1), item)
	case len(item.Keys) > 2:
		r.bad(line, "path takes one name")
	default: // as JSON has it: {"path": {"a": {…}}}
		obj, ok := item.Val.(*ast.ObjectType)
		if !ok {
			r.bad(line, "path needs a name")
			return
		}
		for _, sub := range obj.List.Items {
			if len(sub.Keys) == 1 {
				r.path(key(sub, 0), sub)
			} else {
				r.bad(line, "path takes one name")
			}
		}
	}
}

// path reads one path block.
func (r *reader) path(path string, item *ast.ObjectItem) {
	b := block{
		reader: r, line: item.Pos().Line, shown: path, seen: map[string]bool{},
		rule: rule{path: strings.TrimPrefix(path, "/"), from: []string{r.policy.Name}},
	}
	obj, ok := item.Val.(*ast.ObjectType)
	if !ok {
		b.bad(b.line, "want a block { … }")
		return
	}
	b.checkPath()
	for _, attr := range obj.List.Items {
		b.attribute(attr)
	}
	if b.rule.maxWrap > 0 && b.rule.minWrap > b.rule.maxWrap {
		b.bad(b.line, "min_wrapping_ttl must not be above max_wrapping_ttl")
	}
	if b.rule.caps&deny != 0 {
		b.rule = rule{path: b.rule.path, caps: deny, from: b.rule.from}
	}
	r.policy.rules = append(r.policy.rules, b.rule)
}

// block is a path block while it is read.
type block struct {
	*reader
	rule  rule
	line  int
	shown string          // the path as it is written
	seen  map[string]bool // attributes
}

func (b *block) bad(line int, format string, args ...any) {
	b.reader.bad(line, "path %.200q: %s", b.shown, fmt.Sprintf(format, args...))
}

// checkPath refuses a path that no canonical path of a request can match.
func (b *block) checkPath() {
	path := b.rule.path
	if path == "" {
		b.bad(b.line, "the path is empty")
		return
	}
	if strings.Contains(path, "{{") {
		b.bad(b.line, "templates such as {{identity.entity.id}} are not implemented yet; write the path out")
		return
	}
	if !utf8.ValidString(path) || strings.ContainsFunc(path, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		b.bad(b.line, "it has control characters or is not UTF-8")
	}
	if i := strings.IndexByte(path, '*'); i >= 0 && i != len(path)-1 {
		b.bad(b.line, "a * may stand at the end only; use + for one whole segment")
	}
	segs := strings.Split(strings.TrimSuffix(path, "*"), "/")
	for i, seg := range segs {
		switch {
		case strings.Contains(seg, "+") && seg != "+":
			b.bad(b.line, "a + stands for one whole segment, not for a part of %q", seg)
		case seg == "+" && i == len(segs)-1 && strings.HasSuffix(path, "*"):
			b.bad(b.line,
				"+* at the end is refused, for it reads as one segment and matches many; end with + for one "+
					"segment, or with * for everything below")
		case seg == "" && i < len(segs)-1:
			b.bad(b.line, "it has an empty segment (two slashes in a row), which no request has")
		case (seg == "." || seg == "..") && (i < len(segs)-1 || !strings.HasSuffix(path, "*")):
			b.bad(b.line, "it has a dot segment, which no request has")
		}
	}
}

// attribute takes one attribute of the block.
func (b *block) attribute(item *ast.ObjectItem) {
	name, line := key(item, 0), item.Pos().Line
	if len(item.Keys) != 1 {
		b.bad(line, "%.100q takes no name", name)
		return
	}
	if b.seen[name] {
		b.bad(line, "%.100q is given twice", name)
		return
	}
	b.seen[name] = true
	switch name {
	case "capabilities":
		b.capabilities(line, b.texts(item))
	case "policy":
		var short string
		_ = hcl.DecodeObject(&short, item.Val)
		caps, ok := shorthands[short]
		if !ok {
			b.bad(line, "policy must be \"read\", \"write\", \"sudo\" or \"deny\"")
		}
		b.rule.caps |= caps
	case "allowed_parameters":
		b.rule.allowed = b.parameters(item)
	case "denied_parameters":
		b.rule.denied = b.parameters(item)
		for name, values := range b.rule.denied {
			b.rule.denied[name] = foldAll(values)
		}
	case "required_parameters":
		b.rule.required = b.texts(item)
	case "min_wrapping_ttl":
		b.rule.minWrap = b.duration(item)
	case "max_wrapping_ttl":
		b.rule.maxWrap = b.duration(item)
	case "comment", "expiration", "list_scan_response_keys_filter_path", "subscribe_event_types", "control_group",
		"mfa_methods":
		b.bad(line, "%s is not built; remove it", name)
	default:
		b.bad(line,
			"unknown key %.100q; there are capabilities, policy, allowed_parameters, denied_parameters, "+
				"required_parameters, min_wrapping_ttl and max_wrapping_ttl",
			name)
	}
}

func (b *block) texts(item *ast.ObjectItem) []string {
	var out []string
	if _, ok := item.Val.(*ast.ListType); !ok || hcl.DecodeObject(&out, item.Val) != nil {
		b.bad(item.Pos().Line, "%s must be a list of texts", key(item, 0))
		return nil
	}
	return out
}

func (b *block) capabilities(line int, names []string) {
	for _, n := range names {
		c := capability(n)
		if c == 0 {
			b.bad(line,
				"unknown capability %.100q; there are create, read, update, patch, delete, list, sudo and deny", n)
		}
		b.rule.caps |= c
	}
}

// parameters reads a block of lists. An empty one restricts nothing.
func (b *block) parameters(item *ast.ObjectItem) map[string][]value {
	name, line := key(item, 0), item.Pos().Line
	raw := map[string]any{}
	obj, ok := item.Val.(*ast.ObjectType)
	if !ok || hcl.DecodeObject(&raw, obj) != nil {
		b.bad(line, "%s must be a block of lists", name)
		return nil
	}
	var out map[string][]value
	for k, v := range raw {
		list, ok := v.([]any)
		folded := strings.ToLower(k)
		_, twice := out[folded]
		switch {
		case !ok:
			b.bad(line, "%s: %.100q must be a list, [] for any value", name, k)
			continue
		case twice:
			b.bad(line, "%s: %.100q is given twice", name, k)
		case k == "*" && len(list) > 0:
			b.bad(line, "%s: \"*\" can only be []", name)
		}
		if out == nil {
			out = map[string][]value{}
		}
		out[folded] = nil
		for _, e := range list {
			val, err := valueOf(e)
			if err != nil {
				b.bad(line, "%s: %.100q: %s", name, k, err)
				break
			}
			out[folded] = append(out[folded], val.withAmounts())
		}
	}
	return out
}

// foldAll folds denied values. A lone "*" denies every value.
func foldAll(values []value) []value {
	out := make([]value, len(values))
	for i, v := range values {
		if out[i] = v.fold().withAmounts(); !v.isList && v.text == "*" {
			return nil
		}
	}
	return out
}

func (b *block) duration(item *ast.ObjectItem) time.Duration {
	var v any
	if hcl.DecodeObject(&v, item.Val) == nil {
		if text, err := scalarOf(v); err == nil {
			if d, err := wire.ParseDuration(text); err == nil {
				return d
			}
		}
	}
	b.bad(item.Pos().Line, "%s must be a duration such as \"90s\" or a number of seconds", key(item, 0))
	return 0
}
