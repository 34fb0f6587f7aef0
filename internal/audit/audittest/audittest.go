// Package audittest is the conformance suite of audit devices. A device that passes it fulfils the
// contract of [audit.Device], alone and behind a broker.
package audittest

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Place is a new destination on which devices can be opened repeatedly.
type Place struct {
	Options map[string]string
	// Read returns the contents; nil for a device that stores nothing.
	Read func(t *testing.T) []byte
	// Cut removes n bytes from the end, like a crash; nil if that is impossible.
	Cut func(t *testing.T, n int)
	// Shared: two devices may be open on the place at once.
	Shared bool
}

// Run tests a type of device on fresh places.
func Run(t *testing.T, typ audit.Type, fresh func(t *testing.T) Place) {
	s := suite{typ: typ}
	for name, test := range map[string]func(*testing.T, Place){
		"Lines":      s.lines,
		"LongLine":   s.longLine,
		"Tail":       s.tail,
		"Torn":       s.torn,
		"Reopen":     s.reopen,
		"Closed":     s.closed,
		"Exclusive":  s.exclusive,
		"Concurrent": s.concurrent,
		"Restart":    s.restart,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

type suite struct{ typ audit.Type }

func (s suite) open(t *testing.T, p Place) audit.Device {
	t.Helper()
	d, err := s.typ.Open(audit.Config{Path: "device/", Options: p.Options})
	if err != nil {
		t.Fatalf("opening: %v", err)
	}
	if _, err := d.Tail(); err != nil {
		t.Fatalf("Tail: %v", err)
	}
	return d
}

func write(t *testing.T, d audit.Device, lines string) {
	t.Helper()
	if err := d.Write(t.Context(), []byte(lines)); err != nil {
		t.Fatalf("Write: %v", err)
	}
}

func check(t *testing.T, p Place, want string) {
	t.Helper()
	if p.Read == nil {
		return
	}
	if got := string(p.Read(t)); got != want {
		t.Errorf("the place holds %q, want %q", abbreviate(got), abbreviate(want))
	}
}

func abbreviate(s string) string {
	if len(s) > 400 {
		return s[:200] + "…" + s[len(s)-200:]
	}
	return s
}

func (s suite) lines(t *testing.T, p Place) {
	d := s.open(t, p)
	defer d.Close()
	write(t, d, "one\n")
	write(t, d, "two\nthree\n")
	check(t, p, "one\ntwo\nthree\n")
}

func (s suite) longLine(t *testing.T, p Place) {
	d := s.open(t, p)
	defer d.Close()
	long := strings.Repeat("x", 3<<20) + "\n"
	write(t, d, long)
	write(t, d, "short\n")
	check(t, p, long+"short\n")
}

func (s suite) tail(t *testing.T, p Place) {
	if p.Read == nil {
		t.Skip("the device keeps nothing")
	}
	d := s.open(t, p)
	if got, err := d.Tail(); err != nil || got.Line != nil || got.Torn != 0 {
		t.Errorf("Tail of a fresh device = %q, %d, %v; want none", got.Line, got.Torn, err)
	}
	lines := chainOf(t, 3)
	write(t, d, strings.Join(lines, ""))
	if err := d.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	d = s.open(t, p)
	defer d.Close()
	got, err := d.Tail()
	if want := strings.TrimSuffix(lines[2], "\n"); err != nil || string(got.Line) != want || got.Torn != 0 {
		t.Errorf("Tail = %q, %d, %v; want %q", got.Line, got.Torn, err, want)
	}
}

func (s suite) torn(t *testing.T, p Place) {
	if p.Cut == nil {
		t.Skip("the place cannot be cut")
	}
	d := s.open(t, p)
	lines := chainOf(t, 3)
	write(t, d, strings.Join(lines, ""))
	if err := d.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	p.Cut(t, 10)
	d, err := s.typ.Open(audit.Config{Path: "device/", Options: p.Options})
	if err != nil {
		t.Fatalf("opening after a crash: %v", err)
	}
	defer d.Close()
	got, err := d.Tail()
	torn := len(lines[2]) - 10 + 1
	if want := strings.TrimSuffix(lines[1], "\n"); err != nil || string(got.Line) != want || got.Torn != torn {
		t.Errorf("Tail = %q, %d, %v; want %q, %d", got.Line, got.Torn, err, want, torn)
	}
	again, err := d.Tail()
	if err != nil || !bytes.Equal(again.Line, got.Line) || again.Torn != got.Torn {
		t.Errorf("Tail a second time = %q, %d, %v; want the same", again.Line, again.Torn, err)
	}
	write(t, d, "next\n")
	if got := p.Read(t); !bytes.HasSuffix(got, []byte("\nnext\n")) {
		t.Errorf("after a torn line, the next one does not begin a line: %q", abbreviate(string(got)))
	}
}

func (s suite) reopen(t *testing.T, p Place) {
	d := s.open(t, p)
	defer d.Close()
	write(t, d, "before\n")
	for range 2 {
		if err := d.Reopen(); err != nil {
			t.Fatalf("Reopen: %v", err)
		}
	}
	write(t, d, "after\n")
	check(t, p, "before\nafter\n")
}

func (s suite) closed(t *testing.T, p Place) {
	if p.Read == nil {
		t.Skip("the device keeps nothing")
	}
	d := s.open(t, p)
	if err := d.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	if err := d.Write(t.Context(), []byte("late\n")); err == nil {
		t.Error("Write after Close succeeded")
	}
	if _, err := d.Tail(); err == nil {
		t.Error("Tail after Close succeeded")
	}
	if err := d.Reopen(); err == nil {
		t.Error("Reopen after Close succeeded")
	}
	check(t, p, "")
}

func (s suite) exclusive(t *testing.T, p Place) {
	if p.Shared {
		t.Skip("the place may be shared")
	}
	d := s.open(t, p)
	if second, err := s.typ.Open(audit.Config{Path: "second/", Options: p.Options}); err == nil {
		second.Close()
		t.Error("a second device was opened on the same place")
	}
	if err := d.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	s.open(t, p).Close()
}

// concurrent: through a broker, the lines of many writers form one chain, and those of one call
// are adjacent.
func (s suite) concurrent(t *testing.T, p Place) {
	const writers, each = 8, 25
	b := s.broker(t, p)
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				q := Entry(fmt.Sprintf("w%d-%d", w, i))
				if err := b.Write(t.Context(), q, q.Answered(q.Time, nil, "")); err != nil {
					t.Errorf("Write: %v", err)
				}
			}
		})
	}
	all.Wait()
	b.Close()
	if p.Read == nil {
		return
	}
	text := p.Read(t)
	verify(t, text, 1+2*writers*each)
	lines := bytes.Split(text, []byte{'\n'})
	for i := 1; i+1 < len(lines); i += 2 {
		if id(lines[i]) != id(lines[i+1]) {
			t.Fatalf("the lines of one call are apart: %s | %s", lines[i], lines[i+1])
		}
	}
}

// restart: a chain continues after a restart.
func (s suite) restart(t *testing.T, p Place) {
	if p.Read == nil {
		t.Skip("the device keeps nothing")
	}
	for i := range 3 {
		b := s.broker(t, p)
		if err := b.Write(t.Context(), Entry(fmt.Sprint(i))); err != nil {
			t.Fatalf("Write: %v", err)
		}
		b.Close()
	}
	verify(t, p.Read(t), 6) // each start writes a line of its own
}

func (s suite) broker(t *testing.T, p Place) *audit.Broker {
	t.Helper()
	b := audit.NewBroker(audit.Options{})
	t.Cleanup(b.Close)
	err := b.Enable(t.Context(), audit.Spec{Type: s.typ, Path: "device/", Options: p.Options, Salt: Salt()})
	if err != nil {
		t.Fatalf("Enable: %v", err)
	}
	return b
}

func verify(t *testing.T, text []byte, lines int) {
	t.Helper()
	report, err := audit.VerifyAfter(audit.Position{}, bytes.NewReader(text))
	if err != nil || !report.OK() || report.Lines != lines {
		t.Errorf("Verify = %d lines, %v, %v; want %d lines and no problem", report.Lines, report.Problems, err, lines)
	}
}

// id is the request's id in a line.
func id(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte(`"request":{"id":"`))
	text, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(text)
}

// Salt is a device's salt for tests.
func Salt() secret.Value { return secret.Text("a salt for tests, 32 bytes long.") }

// Entry is a small request line for tests.
func Entry(requestID string) *audit.Entry {
	return &audit.Entry{
		Kind: audit.KindRequest, Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Request: &audit.Request{ID: requestID, Operation: "read", Path: "secret/data/app", Data: audit.Data{
			V: map[string]string{"password": "hunter2"},
		}},
	}
}

// chainOf returns n lines, each with its newline, as a broker would write them.
func chainOf(t *testing.T, n int) []string {
	t.Helper()
	d := &recorder{}
	b := audit.NewBroker(audit.Options{})
	typ := audit.Type{Name: "recorder", Open: func(audit.Config) (audit.Device, error) { return d, nil }}
	if err := b.Enable(t.Context(), audit.Spec{Type: typ, Path: "recorder/", Salt: Salt()}); err != nil {
		t.Fatalf("Enable: %v", err)
	}
	for i := range n - 1 {
		if err := b.Write(t.Context(), Entry(fmt.Sprint(i))); err != nil {
			t.Fatalf("Write: %v", err)
		}
	}
	b.Close()
	return strings.SplitAfter(d.text.String(), "\n")[:n]
}
