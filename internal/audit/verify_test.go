package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/keyturn/keyturn/internal/costtest"
)

// linked appends a rendered entry as the line after p.
func linked(dst, body []byte, p Position, torn int) ([]byte, Position) {
	return appendLine(dst, body, begin(body), p, torn)
}

// chainLines returns n lines with their newlines.
func chainLines(n int) [][]byte {
	r := &renderer{h: NewHasher(testSalt())}
	var lines [][]byte
	at := Position{}
	for i := range n {
		var line []byte
		line, at = linked(nil, r.entry(nil, readOf(fmt.Sprint(i))), at, 0)
		lines = append(lines, line)
	}
	return lines
}

func TestVerifyShowsTampering(t *testing.T) {
	lines := chainLines(8)
	for _, test := range []struct {
		name   string
		tamper func(l [][]byte) [][]byte
		line   int // of the first problem
		want   string
	}{
		{"nothing", func(l [][]byte) [][]byte { return l }, 0, ""},
		{"older files rotated away", func(l [][]byte) [][]byte { return l[3:] }, 0, ""},
		{"one removed", func(l [][]byte) [][]byte { return slices.Delete(l, 3, 4) }, 4, "1 lines are missing"},
		{"three removed", func(l [][]byte) [][]byte { return slices.Delete(l, 3, 6) }, 4, "3 lines are missing"},
		{"changed", func(l [][]byte) [][]byte {
			l[3] = bytes.Replace(l[3], []byte("secret/data/app"), []byte("secret/data/xyz"), 1)
			return l
		}, 5, "was changed"},
		{"doubled", func(l [][]byte) [][]byte { return slices.Insert(l, 3, l[2]) }, 4, "sequence 3 follows 3"},
		{"swapped", func(l [][]byte) [][]byte { l[3], l[4] = l[4], l[3]; return l }, 4, "1 lines are missing"},
		{"foreign text put in", func(l [][]byte) [][]byte { return slices.Insert(l, 3, []byte("hello\n")) }, 5,
			"no audit line"},
		{"trailer cut off", func(l [][]byte) [][]byte {
			l[3] = append(l[3][:bytes.LastIndex(l[3], []byte(",\"sequence"))], "}\n"...)
			return l
		}, 5, "no audit line"},
		{"one removed and renumbered", func(l [][]byte) [][]byte {
			l[4] = bytes.Replace(l[4], []byte(`"sequence":5`), []byte(`"sequence":4`), 1)
			return slices.Delete(l, 3, 4)
		}, 4, "was changed"},
		{"last one torn", func(l [][]byte) [][]byte { l[7] = l[7][:len(l[7])/2]; return l }, 8, "not complete"},
		{"foreign text at the end", func(l [][]byte) [][]byte { return append(l, []byte("hello\n")) }, 9,
			"no audit line"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var changed [][]byte
			for _, l := range lines {
				changed = append(changed, bytes.Clone(l))
			}
			text := bytes.Join(test.tamper(changed), nil)
			report, err := Verify(iotest.HalfReader(bytes.NewReader(text)))
			if err != nil {
				t.Fatal(err)
			}
			if test.want == "" {
				if !report.OK() {
					t.Errorf("problems: %v", report.Problems)
				}
				return
			}
			if report.OK() || report.Problems[0].Line != test.line ||
				!strings.Contains(report.Problems[0].Text, test.want) {
				t.Errorf("problems: %v; want line %d, %q", report.Problems, test.line, test.want)
			}
		})
	}
}

func TestVerifyJoinsFiles(t *testing.T) {
	lines := chainLines(6)
	first, err := VerifyAfter(Position{}, bytes.NewReader(bytes.Join(lines[:3], nil)))
	if err != nil || !first.OK() || first.Lines != 3 || first.First.Sequence != 1 || first.Last.Sequence != 3 {
		t.Fatalf("first file: %+v, %v", first, err)
	}
	second, err := VerifyAfter(first.Last, bytes.NewReader(bytes.Join(lines[3:], nil)))
	if err != nil || !second.OK() {
		t.Errorf("second file: %+v, %v", second, err)
	}
	for _, cut := range [][][]byte{lines[4:], lines[2:]} {
		if r, err := VerifyAfter(first.Last, bytes.NewReader(bytes.Join(cut, nil))); err != nil || r.OK() {
			t.Errorf("a file that does not follow: %+v, %v", r, err)
		}
	}
	if r, err := VerifyAfter(Position{}, bytes.NewReader(bytes.Join(lines[1:], nil))); err != nil || r.OK() {
		t.Errorf("a first file without its first line: %+v, %v", r, err)
	}
}

func TestVerifyTorn(t *testing.T) {
	lines := chainLines(3)
	at, _ := ParseLine(bytes.TrimSuffix(lines[1], []byte{'\n'}))
	r := &renderer{h: NewHasher(testSalt())}
	torn := append(bytes.Clone(lines[2][:20]), '\n')
	text := slices.Concat(lines[0], lines[1], torn)
	declared, _ := linked(nil, r.entry(nil, readOf("next")), at, len(torn))
	wrong, _ := linked(nil, r.entry(nil, readOf("next")), at, len(torn)+1)
	silent, _ := linked(nil, r.entry(nil, readOf("next")), at, 0)
	for name, test := range map[string]struct {
		next []byte
		ok   bool
	}{"declared": {declared, true}, "wrong": {wrong, false}, "silent": {silent, false}} {
		report, err := Verify(bytes.NewReader(slices.Concat(text, test.next)))
		if err != nil || report.OK() != test.ok || test.ok && report.Torn != 1 {
			t.Errorf("%s: %+v, %v", name, report, err)
		}
	}
	if report, err := Verify(bytes.NewReader(slices.Concat(lines[0], lines[1], declared))); err != nil || report.OK() {
		t.Errorf("a torn line taken away: %+v, %v", report, err)
	}
}

func TestVerifyReadError(t *testing.T) {
	broken := io.MultiReader(bytes.NewReader(chainLines(1)[0]), iotest.ErrReader(errors.New("disk")))
	if r, err := Verify(broken); err == nil || r.Lines != 1 {
		t.Errorf("Verify = %+v, %v; want the error", r, err)
	}
}

// TestTrailerCannotBeImitated: a user's text that looks like a trailer is
// escaped, and the line's own is read.
func TestTrailerCannotBeImitated(t *testing.T) {
	r := &renderer{h: NewHasher(testSalt())}
	e := readOf("1")
	e.Error = `x","sequence":99,"previous":"sha256:` + strings.Repeat("0", 64) + `"}`
	line, _ := linked(nil, r.entry(nil, e), Position{Sequence: 6, Hash: hashLine([]byte("x"))}, 0)
	got, ok := ParseLine(bytes.TrimSuffix(line, []byte{'\n'}))
	if !ok || got.Sequence != 7 {
		t.Errorf("ParseLine = %v, %v; want sequence 7", got, ok)
	}
	e.Request.Path = e.Error
	if _, ok := ParseLine(r.entry(nil, e)); ok {
		t.Error("a line without a trailer was taken for whole")
	}
}

// FuzzVerify: whatever a file holds, verifying ends, and an unbroken chain is
// recognised however it is cut.
func FuzzVerify(f *testing.F) {
	text := bytes.Join(chainLines(4), nil)
	f.Add(text, 0, byte(0))
	f.Add([]byte{}, 3, byte('\n'))
	f.Add(text[:len(text)-30], 100, byte('"'))
	f.Fuzz(func(t *testing.T, text []byte, at int, with byte) {
		before, err := Verify(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if !before.OK() || at < 0 || at >= len(text) || text[at] == with || before.Lines < 2 {
			return
		}
		// A changed byte shows, but for the last line: nothing follows it.
		changed := bytes.Clone(text)
		changed[at] = with
		after, err := Verify(bytes.NewReader(changed))
		last := bytes.LastIndexByte(bytes.TrimSuffix(text, []byte{'\n'}), '\n') + 1
		first := bytes.IndexByte(text, '\n')
		if err == nil && after.OK() && at < last && at > first {
			t.Errorf("a change at %d from %q to %q does not show", at, text[at], with)
		}
	})
}

// FuzzParseLine: a parsed line is one that appendLine could have made.
func FuzzParseLine(f *testing.F) {
	for _, l := range chainLines(2) {
		f.Add(bytes.TrimSuffix(l, []byte{'\n'}))
	}
	f.Add([]byte(`{"time":"","torn":5,"sequence":2,"previous":"sha256:` + strings.Repeat("0", 64) + `"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		tr, ok := parseTrailer(line)
		if !ok {
			return
		}
		body := line[:bytes.LastIndex(line, []byte(sequenceKey))]
		if tr.torn > 0 {
			body = body[:bytes.LastIndex(body, []byte(tornKey))]
		}
		got, _ := linked(nil, append(bytes.Clone(body), '}'), Position{Sequence: tr.sequence - 1, Hash: tr.previous},
			tr.torn)
		if want := string(line) + "\n"; string(got) != want {
			t.Errorf("parsed %q, which would be written as %q", want, got)
		}
	})
}

// FuzzLineCost: telling whether a line is one of ours costs a bounded number of steps for each
// byte.
func FuzzLineCost(f *testing.F) {
	const limit = 1 << 20
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Parse: func(text string) error {
		if len(text) > limit {
			return errors.New("too long for this test")
		}
		ParseLine([]byte(text))
		StartsLine([]byte(text))
		return nil
	}}, costtest.Shape{Head: `{"time":"`, Unit: `","previous":"`, Tail: `"}`}, costtest.Shape{Unit: "9", Tail: `"}`},
		costtest.Shape{Unit: "["})
}
