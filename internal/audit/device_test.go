package audit

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// A fakeDevice is a device in memory that misbehaves on command.
type fakeDevice struct {
	mu    sync.Mutex
	text  bytes.Buffer
	fault func(lines []byte) (stored int, err error) // called by every write while it is set
	gone  error                                      // of opening
	block chan struct{}                              // writes wait for this
	ended bool
}

func (d *fakeDevice) Tail() (Tail, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	text := d.text.Bytes()
	torn := 0
	for len(text) > 0 {
		i := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
		if line := bytes.TrimSuffix(text[i:], []byte{'\n'}); text[len(text)-1] == '\n' {
			if _, ok := ParseLine(line); ok {
				return Tail{Line: bytes.Clone(line), Torn: torn}, nil
			}
		} else {
			d.text.WriteByte('\n')
			torn++
			text = d.text.Bytes()[:len(text)]
		}
		torn += len(text) - i
		text = text[:i]
	}
	return Tail{Torn: torn}, nil
}

func (d *fakeDevice) Write(_ context.Context, lines []byte) error {
	d.mu.Lock()
	block := d.block
	d.mu.Unlock()
	if block != nil {
		<-block
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := len(lines), error(nil)
	if d.fault != nil {
		n, err = d.fault(lines)
	}
	d.text.Write(lines[:n])
	return err
}

func (d *fakeDevice) Reopen() error {
	d.mu.Lock()
	block := d.block
	d.mu.Unlock()
	if block != nil {
		<-block
	}
	return nil
}

func (d *fakeDevice) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	return nil
}

func (d *fakeDevice) open(Config) (Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone != nil {
		return nil, d.gone
	}
	d.ended = false
	return d, nil
}

func (d *fakeDevice) set(f func(*fakeDevice)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *fakeDevice) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.text.String()
}

// The ways in which a write on a full disk fails.
var (
	notStored  = func([]byte) (int, error) { return 0, syscall.ENOSPC }
	halfStored = func(lines []byte) (int, error) { return len(lines) / 2, syscall.ENOSPC }
	lateError  = func(lines []byte) (int, error) { return len(lines), errors.New("reply lost") }
)

func testSalt() secret.Value { return secret.Text("a salt for tests, 32 bytes long.") }

func (d *fakeDevice) spec(path string) Spec {
	return Spec{Type: Type{Name: "fake", Open: d.open}, Path: path, Salt: testSalt()}
}

// brokerOn returns a broker with the devices enabled at "0/", "1/", …
func brokerOn(t *testing.T, devices ...*fakeDevice) *Broker {
	t.Helper()
	b := NewBroker(Options{})
	t.Cleanup(b.Close)
	for i, d := range devices {
		if err := b.Enable(t.Context(), d.spec(string(rune('0'+i))+"/")); err != nil {
			t.Fatalf("Enable: %v", err)
		}
	}
	return b
}

func readOf(id string) *Entry {
	return &Entry{
		Kind: KindRequest, Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		Request: &Request{ID: id, Operation: "read", Path: "secret/data/app"},
	}
}

// verified verifies the chain from its first line.
func verified(t *testing.T, d *fakeDevice) Report {
	t.Helper()
	report, err := VerifyAfter(Position{}, bytes.NewReader([]byte(d.String())))
	if err != nil || !report.OK() {
		t.Errorf("the chain is broken: %v, %v\n%s", report.Problems, err, d)
	}
	return report
}
