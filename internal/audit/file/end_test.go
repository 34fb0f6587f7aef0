package file

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/audit/audittest"
)

// someLines returns three whole lines.
func someLines(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	b := audit.NewBroker(audit.Options{})
	defer b.Close()
	spec := audit.Spec{
		Type: Type, Path: "file/", Options: map[string]string{"file_path": path}, Salt: audittest.Salt(),
	}
	if err := b.Enable(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	if err := b.Write(t.Context(), audittest.Entry("1"), audittest.Entry("2")); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestReadEnd(t *testing.T) {
	whole := string(someLines(t))
	lines := strings.SplitAfter(whole, "\n")
	last := strings.TrimSuffix(lines[2], "\n")
	zeros := strings.Repeat("\x00", 4096)
	long := strings.Repeat("y", 1<<20)
	for _, test := range []struct {
		name, text, line string
		torn             int
		open, ours       bool
	}{
		{"empty", "", "", 0, false, true},
		{"whole", whole, last, 0, false, true},
		{"torn", whole + `{"time":"20`, last, 11, true, true},
		{"torn and ended", whole + `{"time":"20` + "\n", last, 12, false, true},
		{"torn twice", whole + "abc\n" + "de", last, 6, true, true},
		{"newline lost", strings.TrimSuffix(whole, "\n"), strings.TrimSuffix(lines[1], "\n"), len(last), true, true},
		{"power loss: zeros", whole + zeros, last, 4096, true, true},
		{"torn, longer than a window", whole + long, last, len(long), true, true},
		{"many torn, longer than a window", whole + strings.Repeat(long[:999]+"\n", 1000), last, 1_000_000, false,
			true},
		{"first line torn", lines[0][:40], "", 40, true, true},
		{"first line torn and ended", lines[0][:40] + "\n", "", 41, false, true},
		{"first line torn at once", `{"ti`, "", 4, true, true},
		{"only zeros", zeros, "", 4096, true, false},
		{"foreign", "hello\n", "", 6, false, false},
		{"foreign, long", strings.Repeat(long+"\n", 2), "", 2 * (len(long) + 1), false, false},
		{"foreign JSON", `{"time":"x"}` + "\n", "", 13, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readEnd(strings.NewReader(test.text), int64(len(test.text)))
			if err != nil {
				t.Fatal(err)
			}
			if string(got.line) != test.line || got.torn != test.torn || got.open != test.open ||
				got.ours != test.ours {
				t.Errorf("line %.60q torn %d open %v ours %v; want %.60q, %d, %v, %v",
					got.line, got.torn, got.open, got.ours, test.line, test.torn, test.open, test.ours)
			}
		})
	}
}

// FuzzReadEnd: wherever a line was torn, an audit file can be continued, and the chain of its
// whole lines verifies.
func FuzzReadEnd(f *testing.F) {
	whole := someLines(f)
	f.Add([]byte("torn"), 0)
	f.Add([]byte("\n\n{}"), 30)
	f.Add([]byte{0, 0, '\n', 0}, 700)
	f.Fuzz(func(t *testing.T, junk []byte, cut int) {
		if cut < 0 || cut > len(whole) {
			return
		}
		text := append(bytes.Clone(whole[:len(whole)-cut]), junk...)
		got, err := readEnd(bytes.NewReader(text), int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		if !got.ours {
			if bytes.Count(text[:len(whole)-cut], []byte{'\n'}) > 0 {
				t.Fatalf("a file with a whole line is refused: %q", text)
			}
			return
		}
		if got.line == nil {
			return
		}
		if at, ok := audit.ParseLine(got.line); !ok || at.Sequence == 0 {
			t.Errorf("the last line %q is none", got.line)
		}
		end := bytes.LastIndex(text, append(bytes.Clone(got.line), '\n')) + len(got.line) + 1
		if got.torn != len(text)-end {
			t.Errorf("torn = %d, %d bytes follow the last whole line", got.torn, len(text)-end)
		}
	})
}
