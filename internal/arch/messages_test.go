package arch

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// TestMessages shows the walk each way of making a message.
func TestMessages(t *testing.T) {
	const head = "package x\nimport \"f\"\n"
	for _, tt := range []struct {
		text string
		want []string
	}{
		{`func f() { fault.New("x.Do", fault.Invalid, "no %q; leave it out", s) }`,
			[]string{"x\tInvalid\tx.Do\t\"no %q; leave it out\""}},
		{`const why = "two " + "parts"
func f() { const op = "x.Do"; fault.New(op, fault.Held, why) }`, []string{"x\tHeld\tx.Do\t\"two parts\""}},
		{`func bad(format string, args ...any) error { return fault.New("x", fault.Invalid, format, args...) }
func f() { bad("a"); worse(1, "b %d", n) }
func worse(n int, format string, args ...any) { bad(format, args...) }`, []string{"x\tInvalid\tx\t\"a\"", "x\tInvalid\tx\t\"b %d\""}},
		{`func f() { bad := func(why string) error { return fault.New("x", fault.Invalid, "path %q: %s", p, why) }; bad("a 100% one") }`,
			[]string{"x\tInvalid\tx\t\"path %q: %s\"", "x\tInvalid\tx\t\"path %q: a 100%% one\""}},
		{`func f() { _ = &fault.Error{Op: "x", Kind: fault.Upstream, Msg: "there is no " + name + " now"} }`,
			[]string{"x\tUpstream\tx\t\"there is no %s now\""}},
		{`func f() { r.problem(at, "want %s", s) }`, []string{"x\tConfig\t-\t\"want %s\""}},
		{`func f() { fmt.Sprintf("none"); p.other(at, "none") }`, nil},
	} {
		var got []string
		for _, m := range messages([]*source{sample(t, "internal/x/x.go", head+tt.text)}) {
			got = append(got, m.String())
		}
		if d := gocmp.Diff(tt.want, got); d != "" {
			t.Errorf("%s\n%s", tt.text, d)
		}
	}
}

func TestMessageRules(t *testing.T) {
	for _, tt := range []struct {
		kind, text string
		want       int
	}{
		{"Invalid", "", 1},
		{"NotFound", "", 0},
		{"Invalid", "Bad things; use others", 1},
		{"Invalid", "PostgreSQL refuses; use others", 0},
		{"Invalid", "a sentence; stop it.", 1},
		{"Invalid", "it is wrong", 1},
		{"Invalid", `field "x": %q is wrong`, 1},
		{"Invalid", `field "x": want a number, not %q`, 0},
		{"Invalid", `field "x": %s`, 0},
		{"Internal", "a record is damaged", 0},
		{"Hint", "log in again.", 0},
		{"Invalid", " it; use x", 1},
	} {
		m := message{text: tt.text, kind: tt.kind, src: sample(t, "internal/x/x.go", "package x")}
		m.at = m.src.file.Pos()
		if got := checkMessage(m); len(got) != tt.want {
			t.Errorf("%s %q: got %v, want %d findings", tt.kind, tt.text, got, tt.want)
		}
	}
	for call, want := range map[string]int{
		`fault.New("x", fault.Invalid, "%v; use x", password)`:      1,
		`fault.New("x", fault.Invalid, "%v; use x", v.Reveal())`:    1,
		`fault.New("x", fault.Invalid, "%d; use x", len(password))`: 0,
		`fault.New("x", fault.Invalid, "%v; use x", name)`:          0,
	} {
		for _, m := range messages([]*source{sample(t, "internal/x/x.go", "package x\nfunc f() { "+call+" }")}) {
			if got := checkArgs(m); len(got) != want {
				t.Errorf("%s: got %v, want %d findings", call, got, want)
			}
		}
	}
}
