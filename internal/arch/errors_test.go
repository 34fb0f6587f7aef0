package arch

import (
	"cmp"
	"flag"
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

const errorsGolden = "testdata/errors.golden"

// A message is one text of an error that a client or an operator may read.
type message struct {
	dir, kind, op string
	text          string // as a format
	args          []ast.Expr
	at            token.Pos
	src           *source
}

// String is the message's line in the golden list.
func (m message) String() string {
	return strings.TrimPrefix(m.dir, "internal/") + "\t" + cmp.Or(m.kind, "-") + "\t" + cmp.Or(m.op, "-") + "\t" + strconv.Quote(m.text)
}

func (m message) found(format string, args ...any) finding { return m.src.found(m.at, format, args...) }

// TestErrors compares all messages with the golden list, and holds each to the
// rules: it names the field, the cause and the next step.
func TestErrors(t *testing.T) {
	all := messages(tree(t))
	used := map[string]bool{}
	for _, m := range all {
		for _, f := range checkMessage(m) {
			if _, exempt := evident[m.text]; exempt {
				used[m.text] = true
				continue
			}
			t.Error(f)
		}
		report(t, checkArgs(m))
	}
	for text := range evident {
		if !used[text] {
			t.Errorf("evident: %q needs no exemption, or is no message any more: take it out", text)
		}
	}
	var lines []string
	for _, m := range all {
		lines = append(lines, m.String())
	}
	slices.Sort(lines)
	got := strings.Join(slices.Compact(lines), "\n") + "\n"
	if *update {
		if err := os.WriteFile(errorsGolden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(errorsGolden)
	if err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff(string(want), got); d != "" {
		t.Errorf("the errors are not those of %s; read what changed, then run: go test ./internal/arch -run TestErrors -update\n%s", errorsGolden, d)
	}
}

// A maker is a function that makes an error of a format that it is given, or
// fills a hole of its own format with a text that it is given.
type maker struct {
	kind, op string
	format   string // with the hole; empty: the argument is the whole format
	hole     int    // the verb that the argument stands in
	arg      int    // which argument
	rest     bool   // the arguments after it are the format's
}

// makersOutside are the makers that are known by name: fault's, and the ones
// that tell an operator what is wrong at a line of the configuration or a recipe.
var makersOutside = map[string]maker{
	"fault.New":      {arg: 2, rest: true},
	"p.problem":      {kind: "Config", arg: 1, rest: true},
	"p.warn":         {kind: "Config", arg: 1, rest: true},
	"problems.add":   {kind: "Recipe", arg: 1, rest: true},
	"problems.later": {kind: "Recipe", arg: 1, rest: true},
	"r.bad":          {kind: "Policy", arg: 1, rest: true},
}

// messages finds every message in the code below internal/ that is not for tests.
func messages(all []*source) []message {
	byDir := map[string][]*source{}
	for _, s := range all {
		if !s.test && strings.HasPrefix(s.dir, "internal/") && s.dir != "internal/fault" {
			byDir[s.dir] = append(byDir[s.dir], s)
		}
	}
	var found []message
	for _, files := range byDir {
		found = append(found, ofPackage(files)...)
	}
	return found
}

// ofPackage learns the package's makers until there are no more, and then reads
// the messages.
func ofPackage(files []*source) []message {
	p := &texts{consts: map[string]string{}, makers: map[string]maker{}}
	for _, s := range files {
		p.constants(s.file)
	}
	for n := -1; n != len(p.makers); {
		n = len(p.makers)
		for _, s := range files {
			p.read(s)
		}
	}
	p.found = nil
	for _, s := range files {
		p.read(s)
	}
	return p.found
}

// texts reads one package.
type texts struct {
	consts map[string]string
	makers map[string]maker // by function's name; locals with their function's before them
	found  []message
}

// constants reads those of the package.
func (p *texts) constants(f *ast.File) {
	for _, d := range f.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, spec := range decl.Specs {
			p.define(spec.(*ast.ValueSpec), p.consts)
		}
	}
}

func (p *texts) define(v *ast.ValueSpec, in map[string]string) {
	for i, name := range v.Names {
		if i < len(v.Values) {
			if text, ok := p.text(v.Values[i], in); ok {
				in[name.Name] = text
			}
		}
	}
}

// text is the value of a constant string.
func (p *texts) text(e ast.Expr, local map[string]string) (string, bool) {
	switch x := e.(type) {
	case *ast.BasicLit:
		if x.Kind != token.STRING {
			return "", false
		}
		s, err := strconv.Unquote(x.Value)
		return s, err == nil
	case *ast.Ident:
		if s, ok := local[x.Name]; ok {
			return s, true
		}
		s, ok := p.consts[x.Name]
		return s, ok
	case *ast.BinaryExpr:
		a, okA := p.text(x.X, local)
		b, okB := p.text(x.Y, local)
		if okA && !okB {
			return a + "%s", true
		}
		return a + b, okA && okB
	case *ast.ParenExpr:
		return p.text(x.X, local)
	}
	return "", false
}

func (p *texts) read(s *source) {
	for _, decl := range s.file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
			p.function(s, f)
		}
	}
}

// function reads one function, with the closures that it names.
func (p *texts) function(s *source, f *ast.FuncDecl) {
	local := map[string]string{}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			p.define(spec, local)
		}
		return true
	})
	r := &reader{texts: p, src: s, name: f.Name.Name, local: local}
	r.body(f.Body, f.Name.Name, names(f.Type))
}

// A reader reads one function's body.
type reader struct {
	*texts
	src   *source
	name  string // of the declared function
	local map[string]string
}

func (r *reader) body(body *ast.BlockStmt, name string, params []string) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.AssignStmt:
			if lit, ok := closure(x); ok {
				r.body(lit.Body, r.name+"."+x.Lhs[0].(*ast.Ident).Name, names(lit.Type))
				return false
			}
		case *ast.CallExpr:
			r.call(x, name, params)
		case *ast.CompositeLit:
			r.literal(x)
		}
		return true
	})
}

func closure(a *ast.AssignStmt) (*ast.FuncLit, bool) {
	if len(a.Lhs) != 1 || len(a.Rhs) != 1 {
		return nil, false
	}
	_, named := a.Lhs[0].(*ast.Ident)
	lit, ok := a.Rhs[0].(*ast.FuncLit)
	return lit, named && ok
}

// names are the names of a function's parameters.
func names(t *ast.FuncType) []string {
	var all []string
	for _, field := range t.Params.List {
		for _, n := range field.Names {
			all = append(all, n.Name)
		}
		if len(field.Names) == 0 {
			all = append(all, "_")
		}
	}
	return all
}

// maker is who the call calls, if it makes an error.
func (r *reader) maker(call *ast.CallExpr) (m maker, known bool) {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		if m, known = r.makers[r.name+"."+f.Name]; !known {
			m, known = r.makers[f.Name]
		}
	case *ast.SelectorExpr:
		x, ok := f.X.(*ast.Ident)
		if sel, is := f.X.(*ast.SelectorExpr); is {
			x = sel.Sel // p.problems.add
		}
		if x != nil {
			m, known = makersOutside[x.Name+"."+f.Sel.Name]
		}
		if !known && (!ok || x.Obj != nil) { // a method of the package's own
			m, known = r.makers[f.Sel.Name]
		}
	}
	return m, known && len(call.Args) > m.arg
}

// call notes the message of a call, or that the function that calls is a maker.
func (r *reader) call(call *ast.CallExpr, name string, params []string) {
	m, known := r.maker(call)
	if !known {
		return
	}
	if selects(call.Fun, "fault", "New") {
		m.op, _ = r.text(call.Args[0], r.local)
		if k, ok := call.Args[1].(*ast.SelectorExpr); ok {
			m.kind = k.Sel.Name
		}
	}
	var args []ast.Expr
	if m.rest {
		args = call.Args[m.arg+1:]
	}
	given := call.Args[m.arg]
	if id, ok := given.(*ast.Ident); ok {
		if i := slices.Index(params, id.Name); i >= 0 {
			m.arg = i
			m.rest = m.rest && call.Ellipsis.IsValid()
			r.makers[name] = m
			return
		}
	}
	text, constant := r.text(given, r.local)
	if !constant {
		text = "%s"
		if m.format == "" {
			return // what it says was said elsewhere
		}
	}
	if m.format != "" {
		if constant {
			text = strings.ReplaceAll(text, "%", "%%")
		}
		text = fill(m.format, m.hole, text)
	} else if hole, i, ok := r.passes(args, params); ok && !call.Ellipsis.IsValid() {
		// Its own format, with a hole that the caller's text fills.
		r.makers[name] = maker{kind: m.kind, op: m.op, format: text, hole: hole, arg: i}
	}
	r.found = append(r.found, message{r.src.dir, m.kind, m.op, text, args, call.Pos(), r.src})
}

// passes tells which argument is a text that the function was given to say why.
func (r *reader) passes(args []ast.Expr, params []string) (hole, param int, ok bool) {
	for i, a := range args {
		if id, is := a.(*ast.Ident); is && (id.Name == "why" || id.Name == "what" || id.Name == "problem") {
			if n := slices.Index(params, id.Name); n >= 0 {
				return i, n, true
			}
		}
	}
	return 0, 0, false
}

// literal reads &fault.Error{Msg: …}.
func (r *reader) literal(lit *ast.CompositeLit) {
	if sel, ok := lit.Type.(*ast.SelectorExpr); !ok || !selects(sel, "fault", "Error") {
		return
	}
	m := message{dir: r.src.dir, at: lit.Pos(), src: r.src}
	for _, e := range lit.Elts {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		switch kv.Key.(*ast.Ident).Name {
		case "Op":
			m.op, _ = r.text(kv.Value, r.local)
		case "Msg":
			m.text, _ = r.text(kv.Value, r.local)
		case "Kind":
			if k, ok := kv.Value.(*ast.SelectorExpr); ok {
				m.kind = k.Sel.Name
			}
		}
	}
	if m.text != "" {
		r.found = append(r.found, m)
	}
}

var verb = regexp.MustCompile(`%[-+# 0]*[0-9]*(\.[0-9]+)?[a-zA-Z]`)

// fill puts text in place of the nth verb of format.
func fill(format string, n int, text string) string {
	at := verb.FindAllStringIndex(format, n+1)
	if n >= len(at) {
		return format
	}
	return format[:at[n][0]] + text + format[at[n][1]:]
}

// nextStep finds what tells a reader how to go on: a clause after a semicolon, a
// question, an imperative, or the form that is wanted. A text that ends in a
// verb after a colon is completed by another text, which has it.
var nextStep = regexp.MustCompile(`; \S+ \S+|\?|: %[sv]$|^%[sv]$|: ".*"|(?i:\b(want|must|needs?|needed|use|try|run|write|give|name|send|choose|leave|put|take|` +
	`say|ask|make|add|set|let|shorten|only|at most|at least|known|privileges required)\b)`)

// checkMessage holds a message to the rules.
func checkMessage(m message) []finding {
	var found []finding
	say := func(format string, args ...any) { found = append(found, m.found(format, args...)) }
	text := m.text
	switch {
	case text == "" && m.kind == "NotFound":
		return nil // a 404 without a message, as Vault's: the path says it all
	case text == "":
		say("the message is empty: name the field, the cause and the next step")
		return found
	}
	if strings.HasSuffix(text, ".") || strings.HasSuffix(text, "!") {
		say("%q ends like a sentence: leave the dot out", text)
	}
	if strings.TrimSpace(text) != text || strings.Contains(text, "\n") {
		say("%q has space around it or a line's end in it", text)
	}
	first, _, _ := strings.Cut(text, " ")
	if first != strings.ToLower(first) && first != "PostgreSQL" && !verb.MatchString(first) {
		say("%q begins with a capital letter: begin in lower case, but for an abbreviation", text)
	}
	// What is Internal is our mistake: the log has the rest, the client can do nothing.
	if m.kind != "Internal" && !nextStep.MatchString(text) {
		say("%q has no next step: say what is wanted or what to do, after a semicolon", text)
	}
	return found
}

// secretWords are in the names of what no message may print.
var secretWords = regexp.MustCompile(`(?i)(password|passwd|secret|token|plaintext|credential|private)`)

// checkArgs looks at what a message prints: not a secret, not the words of a third party.
func checkArgs(m message) []finding {
	var found []finding
	for _, a := range m.args {
		ast.Inspect(a, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.CallExpr:
				if sel, ok := x.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Reveal" {
					found = append(found, m.found("%q prints a secret", m.text))
				}
				if id, ok := x.Fun.(*ast.Ident); ok && (id.Name == "len" || id.Name == "cap") {
					return false
				}
			case *ast.Ident:
				if secretWords.MatchString(x.Name) && publicNames[x.Name] == "" {
					found = append(found, m.found("%q prints %s: if it is no secret, list it in publicNames", m.text, x.Name))
				}
			}
			return true
		})
	}
	return found
}
