package arch

import (
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A maker is a function that makes an error with a format parameter, or that inserts a text
// parameter into its own format.
type maker struct {
	kind, op string
	format   string // with the hole; empty: the argument is the whole format
	hole     int    // the verb that the argument stands in
	arg      int    // which argument
	rest     bool   // the arguments after it are the format's
}

// makersOutside are makers that are known by name: those of fault, and those that report an error
// at a line of the configuration or a recipe.
var makersOutside = map[string]maker{
	"fault.New":      {arg: 2, rest: true},
	"r.problem":      {kind: "Config", arg: 1, rest: true},
	"r.warn":         {kind: "Config", arg: 1, rest: true},
	"report.problem": {kind: "Config", arg: 1, rest: true},
	"report.warn":    {kind: "Config", arg: 1, rest: true},
	"problems.add":   {kind: "Recipe", arg: 1, rest: true},
	"problems.later": {kind: "Recipe", arg: 1, rest: true},
	"r.bad":          {kind: "Policy", arg: 1, rest: true},
}

// makersIn are makers in a single folder: for a failed start, and for the command line.
var makersIn = map[string]map[string]maker{
	"internal/server":        {"fmt.Errorf": {kind: "Start", rest: true}, "errors.New": {kind: "Start"}},
	"internal/server/config": {"fmt.Errorf": {kind: "Start", rest: true}, "errors.New": {kind: "Start"}},
	"internal/cli": {
		"usagef": {kind: "Usage", rest: true}, "hinted": {kind: "Hint", arg: 1, rest: true},
	},
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

// ofPackage finds the makers of the package, and then its messages.
func ofPackage(files []*source) []message {
	p := &texts{consts: map[string]string{}, makers: map[string]maker{}, outside: maps.Clone(makersOutside)}
	for name, m := range makersIn[files[0].dir] {
		if strings.Contains(name, ".") {
			p.outside[name] = m
		} else {
			p.makers[name] = m
		}
	}
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
	consts  map[string]string
	makers  map[string]maker // by function's name; locals with their function's before them
	outside map[string]maker
	found   []message
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
			m, known = r.outside[x.Name+"."+f.Sel.Name]
		}
		if !known && (!ok || x.Obj != nil) { // a method of the package's own
			m, known = r.makers[f.Sel.Name]
		}
	}
	return m, known && len(call.Args) > m.arg
}

// call records the message of a call, or that the calling function is a maker.
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

// passes returns which argument is a parameter of the function that explains the error.
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
