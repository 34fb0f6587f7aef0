// Package policy decides what the holder of policies may do. It is pure: text
// in, decisions out, no store and no clock.
//
// A policy's rules each name a path and what is allowed there. Of all rules
// that match a request's path exactly one decides, the most specific; rules of
// several policies for the same path are merged first. The order is the one
// that Vault documents (https://developer.hashicorp.com/vault/docs/concepts/policies):
// an exact path wins over patterns; of two patterns the one whose first "+" or "*" comes later wins, then
// the one without a "*" at its end, then the one with fewer "+", then the longer,
// then the greater.
//
// Two things are stricter than a plain reading of that: "deny" also denies
// paths that differ in case only, and a listing is judged with and without its
// last slash, so that a deny cannot be stepped around.
package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
)

// Root is the name of the policy that allows everything.
const Root = "root"

// maxText is the longest policy text in bytes.
const maxText = 1 << 20

// Operation is what a request does, as rules know it.
type Operation uint16

// The operations, and the capabilities that are none. They are bits.
const (
	Create Operation = 1 << iota
	Read
	Update
	Patch
	Delete
	List
	sudo
	deny
)

// capabilities by name. Vault's newer "subscribe" and "recover" are accepted
// and grant nothing here: what they concern does not exist.
var capabilities = map[string]Operation{
	"create": Create, "read": Read, "update": Update, "patch": Patch, "delete": Delete, "list": List,
	"sudo": sudo, "deny": deny, "subscribe": 0, "recover": 0,
}

// shorthands of the old form policy = "read".
var shorthands = map[string]Operation{
	"deny": deny, "read": Read | List, "write": Create | Read | Update | Patch | Delete | List,
	"sudo": Create | Read | Update | Patch | Delete | List | sudo,
}

// A Policy is a parsed text. It is immutable.
type Policy struct {
	Name  string
	root  bool
	rules []rule
}

// RootPolicy allows everything.
func RootPolicy() *Policy { return &Policy{Name: Root, root: true} }

// rule is what is allowed at one path.
type rule struct {
	path     string // as written, without a leading slash
	caps     Operation
	allowed  map[string][]any // nil: no restriction
	denied   map[string][]any
	required []string
	minWrap  time.Duration
	maxWrap  time.Duration
	from     []string // names of the policies
}

// Name checks a policy's name and returns it in lower case. Only ASCII letters,
// digits and . _ : @ - are allowed, and are checked before anything is folded: "ROOT" with a
// Kelvin sign must not become root.
func Name(s string) (string, error) {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._:@-", r))
	}
	if s == "" || len(s) > 128 || strings.ContainsFunc(s, bad) || strings.Trim(s, ".") == "" {
		return "", fault.New("policy.Name", fault.Invalid, "the policy name %.40q must have 1 to 128 ASCII letters, digits or . _ : @ -", s)
	}
	return strings.ToLower(s), nil
}

// Parse reads a policy's text, HCL or JSON. Errors name the line. What it does
// not know is an error, never ignored.
func Parse(name, text string) (*Policy, error) {
	if len(text) > maxText {
		return nil, fault.New("policy.Parse", fault.Invalid, "field \"policy\": longer than 1 MiB")
	}
	file, err := parseHCL(text)
	if err != nil {
		return nil, fault.New("policy.Parse", fault.Invalid, "field \"policy\": %s", err)
	}
	list, ok := file.Node.(*ast.ObjectList)
	if !ok {
		return nil, fault.New("policy.Parse", fault.Invalid, "field \"policy\": want path blocks, such as path \"secret/data/app\" { capabilities = [\"read\"] }")
	}
	p := &Policy{Name: name}
	var problems []string
	for _, item := range list.Items {
		problems = append(problems, p.add(item)...)
	}
	if len(problems) > 0 {
		return nil, fault.New("policy.Parse", fault.Invalid, "field \"policy\": %s", strings.Join(problems, "; "))
	}
	return p, nil
}

// parseHCL refuses repeated attributes, and survives what makes the parser panic.
func parseHCL(text string) (f *ast.File, err error) {
	defer func() {
		if r := recover(); r != nil {
			f, err = nil, fmt.Errorf("it cannot be parsed")
		}
	}()
	var twice map[string]any
	if err := hcl.DecodeErrorOnDuplicates(&twice, text); err != nil {
		return nil, err
	}
	return hcl.Parse(text)
}

func key(item *ast.ObjectItem, i int) string {
	s, _ := item.Keys[i].Token.Value().(string)
	return s
}

// add reads one top-level item and returns what is wrong with it.
func (p *Policy) add(item *ast.ObjectItem) []string {
	line := item.Pos().Line
	if len(item.Keys) == 0 {
		return []string{fmt.Sprintf("line %d: want a path block", line)}
	}
	switch k := key(item, 0); {
	case k == "name" && len(item.Keys) == 1:
		return nil
	case k != "path":
		return []string{fmt.Sprintf("line %d: unknown key %q; a policy has path blocks", line, k)}
	}
	if len(item.Keys) == 1 { // the JSON form: {"path": {"a": {…}}}
		obj, ok := item.Val.(*ast.ObjectType)
		if !ok {
			return []string{fmt.Sprintf("line %d: path needs a name", line)}
		}
		var problems []string
		for _, sub := range obj.List.Items {
			problems = append(problems, p.addPath(key(sub, 0), sub)...)
		}
		return problems
	}
	if len(item.Keys) != 2 {
		return []string{fmt.Sprintf("line %d: path takes one name", line)}
	}
	return p.addPath(key(item, 1), item)
}

// addPath reads one path block.
func (p *Policy) addPath(path string, item *ast.ObjectItem) []string {
	b := block{line: item.Pos().Line, rule: rule{path: strings.TrimPrefix(path, "/"), from: []string{p.Name}}}
	obj, ok := item.Val.(*ast.ObjectType)
	if !ok {
		return []string{fmt.Sprintf("line %d: path %q: want a block { … }", b.line, path)}
	}
	b.checkPath()
	for _, attr := range obj.List.Items {
		b.read(attr)
	}
	if len(b.problems) == 0 {
		p.rules = append(p.rules, b.rule)
	}
	return b.problems
}

// block is a path block while it is read.
type block struct {
	rule
	line     int
	problems []string
}

func (b *block) bad(line int, format string, args ...any) {
	b.problems = append(b.problems, fmt.Sprintf("line %d: path %q: ", line, b.path)+fmt.Sprintf(format, args...))
}

func (b *block) checkPath() {
	if strings.Contains(b.path, "{{") {
		b.bad(b.line, "templates are not built yet; write the path out")
	}
	if i := strings.IndexByte(b.path, '*'); i >= 0 && i != len(b.path)-1 {
		b.bad(b.line, "a * may stand at the end only; use + for one whole segment")
	}
	for seg := range strings.SplitSeq(strings.TrimSuffix(b.path, "*"), "/") {
		if strings.Contains(seg, "+") && seg != "+" {
			b.bad(b.line, "a + stands for one whole segment: %q", seg)
		}
	}
}

// read takes one attribute of the block.
func (b *block) read(item *ast.ObjectItem) {
	name, line := key(item, 0), item.Pos().Line
	decode := func(into any) bool {
		if err := hcl.DecodeObject(into, item.Val); err != nil {
			b.bad(line, "%s has a wrong form", name)
			return false
		}
		return true
	}
	switch name {
	case "capabilities":
		var names []string
		if decode(&names) {
			b.capabilities(line, names)
		}
	case "policy":
		var short string
		if decode(&short) {
			caps, ok := shorthands[short]
			if !ok {
				b.bad(line, "policy must be read, write, sudo or deny, not %q", short)
			}
			b.caps |= caps
		}
	case "allowed_parameters":
		b.allowed = b.parameters(item)
	case "denied_parameters":
		b.denied = b.parameters(item)
	case "required_parameters":
		if decode(&b.required) {
			for i := range b.required {
				b.required[i] = strings.ToLower(b.required[i])
			}
		}
	case "min_wrapping_ttl", "max_wrapping_ttl":
		b.wrapping(item, name)
	case "comment", "expiration", "list_scan_response_keys_filter_path", "subscribe_event_types":
		b.bad(line, "%s is not built", name)
	default:
		b.bad(line, "unknown key %q; there are capabilities, policy, allowed_parameters, denied_parameters, required_parameters, min_wrapping_ttl and max_wrapping_ttl", name)
	}
}

func (b *block) capabilities(line int, names []string) {
	for _, n := range names {
		c, ok := capabilities[n]
		if !ok {
			b.bad(line, "unknown capability %q; there are create, read, update, patch, delete, list, sudo and deny", n)
		}
		b.caps |= c
	}
	if b.caps&deny != 0 {
		b.caps = deny
	}
}

func (b *block) parameters(item *ast.ObjectItem) map[string][]any {
	raw := map[string]any{}
	obj, ok := item.Val.(*ast.ObjectType)
	if !ok || hcl.DecodeObject(&raw, obj) != nil {
		b.bad(item.Pos().Line, "%s must be a block of lists", key(item, 0))
		return nil
	}
	out := map[string][]any{}
	for k, v := range raw {
		list, ok := v.([]any)
		if !ok {
			b.bad(item.Pos().Line, "%s: %q must be a list, [] for any value", key(item, 0), k)
			continue
		}
		out[strings.ToLower(k)] = list
	}
	return out
}

func (b *block) wrapping(item *ast.ObjectItem, name string) {
	var text any
	if err := hcl.DecodeObject(&text, item.Val); err != nil {
		b.bad(item.Pos().Line, "%s has a wrong form", name)
		return
	}
	d, err := duration(text)
	if err != nil {
		b.bad(item.Pos().Line, "%s: %s", name, err)
		return
	}
	if name == "min_wrapping_ttl" {
		b.minWrap = d
	} else {
		b.maxWrap = d
	}
	if b.maxWrap > 0 && b.minWrap > b.maxWrap {
		b.bad(item.Pos().Line, "min_wrapping_ttl must not be above max_wrapping_ttl")
	}
}

// merge joins the rules of two policies for the same path: capabilities add
// up and deny wins; restrictions of parameters and of wrapping add up, too, so that
// no policy takes away what another demands.
func (r rule) merge(o rule) rule {
	r.from = append(slices.Clone(r.from), o.from...)
	if (r.caps|o.caps)&deny != 0 {
		return rule{path: r.path, caps: deny, from: r.from}
	}
	r.caps |= o.caps
	r.allowed, r.denied = mergeParams(r.allowed, o.allowed), mergeParams(r.denied, o.denied)
	r.required = slices.Compact(slices.Sorted(slices.Values(append(slices.Clone(r.required), o.required...))))
	r.minWrap = max(r.minWrap, o.minWrap)
	if r.maxWrap == 0 || o.maxWrap > 0 && o.maxWrap < r.maxWrap {
		r.maxWrap = o.maxWrap
	}
	return r
}

// mergeParams joins lists of values; an empty list means any value and wins.
func mergeParams(a, b map[string][]any) map[string][]any {
	if a == nil {
		return b
	}
	out := map[string][]any{}
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		if old, both := out[k]; both && (len(old) == 0 || len(v) == 0) {
			out[k] = nil
		} else {
			out[k] = append(slices.Clone(old), v...)
		}
	}
	return out
}
