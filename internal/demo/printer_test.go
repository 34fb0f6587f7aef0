package demo

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := newPrinter(&b)
		p.chapter("A beginning")
		p.say("server", "answers on %s", "x")
		time.Sleep(12340 * time.Millisecond)
		p.say("consumer", "has called %d times", 7)
		want := "\nA beginning\n\n" + "  0.00 s  server    answers on x\n" + " 12.34 s  consumer  has called 7 times\n"
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	wrong := newPrinter(&b).table([]row{
		exactly("rotations", 4, 4, "as told"),
		exactly("failed calls", 2, 0, ""),
		atLeast("consumer's calls", 100, 100, ""),
		atLeast("readings", 0, 1, ""),
	})
	want := `                                  seen   expected
  rotations                          4   4               ok     as told
  failed calls                       2   0               WRONG
  consumer's calls                 100   100 or more     ok
  readings                           0   1 or more       WRONG
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"failed calls: 2, want 0", "readings: 0, want 1 or more"}, wrong); diff != "" {
		t.Error(diff)
	}
}

// TestColours checks that colours do not change the columns, and that only a terminal gets them.
func TestColours(t *testing.T) {
	var b bytes.Buffer
	p := newPrinter(&b)
	if p.colours {
		t.Error("a buffer is taken for a terminal")
	}
	p.colours = true
	p.say("key", "rotations")
	if text := b.String(); !strings.Contains(text, "\x1b[33mkey      \x1b[0m rotations\n") {
		t.Errorf("got %q", text)
	}
}

// closed is a pipe without a reader.
type closed struct{}

func (closed) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

func TestGone(t *testing.T) {
	p, gone := newPrinter(closed{}), 0
	p.gone = func() { gone++ }
	p.say("key", "rotations")
	if gone != 1 {
		t.Errorf("gone was called %d times, want 1", gone)
	}
}
