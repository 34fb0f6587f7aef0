package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestNoDevice(t *testing.T) {
	b := NewBroker(Options{})
	defer b.Close()
	if err := b.Write(t.Context(), readOf("1")); err != nil {
		t.Errorf("Write without a device = %v, want nil", err)
	}
	if !b.Healthy() || b.Enabled() {
		t.Errorf("Healthy = %v, Enabled = %v; want true, false", b.Healthy(), b.Enabled())
	}
	if stored := b.Render(readOf("1")); stored != nil {
		t.Errorf("Render = %s, want nothing to store", stored)
	}
}

func TestEveryDeviceIsWritten(t *testing.T) {
	one, two := new(fakeDevice), new(fakeDevice)
	b := brokerOn(t, one, two)
	for i := range 10 {
		if err := b.Write(t.Context(), readOf(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	for _, d := range []*fakeDevice{one, two} {
		if r := verified(t, d); r.Lines != 11 {
			t.Errorf("%d lines, want 11", r.Lines)
		}
		if !d.ended {
			t.Error("the device was not closed")
		}
	}
	if err := b.Write(t.Context(), readOf("late")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Write after Close = %v, want Unavailable", err)
	}
}

// TestFullDisk: a failed write is refused, however it fails. When there is space again, the device
// recovers, and the chain is unbroken.
func TestFullDisk(t *testing.T) {
	for name, how := range map[string]func([]byte) (int, error){
		"not stored": notStored, "half stored": halfStored, "stored, error": lateError,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := new(fakeDevice)
				b := brokerOn(t, d)
				if err := b.Write(t.Context(), readOf("before")); err != nil {
					t.Fatal(err)
				}
				d.set(func(d *fakeDevice) { d.fault = how })
				if err := b.Write(t.Context(), readOf("during"), readOf("during2")); !fault.Is(err,
					fault.Unavailable) {
					t.Fatalf("Write = %v, want Unavailable", err)
				}
				if b.Healthy() {
					t.Error("Healthy while the only device fails")
				}
				time.Sleep(30 * time.Second) // many probes fail, too
				d.set(func(d *fakeDevice) { d.fault = nil })
				time.Sleep(2 * lastRetry)
				if !b.Healthy() {
					t.Fatal("the device has not come back")
				}
				if err := b.Write(t.Context(), readOf("after")); err != nil {
					t.Fatal(err)
				}
				b.Close()
				verified(t, d)
				text := d.String()
				if !strings.Contains(text, `"missed":"2"`) || !strings.Contains(text, `"id":"after"`) {
					t.Errorf("want a line that says that two were missed, and the last one:\n%s", text)
				}
				if m := &b.Devices()[0].Metrics; (*m).Missed.Load() != 2 || (*m).Failures.Load() == 0 {
					t.Errorf("missed %d, failures %d", (*m).Missed.Load(), (*m).Failures.Load())
				}
			})
		})
	}
}

func TestOneOfTwoFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, good := new(fakeDevice), new(fakeDevice)
		b := brokerOn(t, bad, good)
		bad.set(func(d *fakeDevice) { d.fault = notStored })
		for i := range 5 {
			if err := b.Write(t.Context(), readOf(fmt.Sprint(i))); err != nil {
				t.Fatalf("Write = %v while one device works", err)
			}
		}
		if !b.Healthy() {
			t.Error("not Healthy while one device works")
		}
		good.set(func(d *fakeDevice) { d.fault = notStored })
		if err := b.Write(t.Context(), readOf("none")); !fault.Is(err, fault.Unavailable) ||
			!errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Write = %v, want Unavailable with the cause", err)
		}
		msg := fault.Message(b.Write(t.Context(), readOf("none")))
		if !strings.Contains(msg, "no audit device can write") {
			t.Errorf("the client gets %q", msg)
		}
	})
}

// TestBlockedDevice: a device that hangs, such as a pipe without reader or a dead file server,
// delays requests only once, and not longer than its timeout.
func TestBlockedDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(fakeDevice)
		b := brokerOn(t, d)
		block := make(chan struct{})
		d.set(func(d *fakeDevice) { d.block = block })
		start := time.Now()
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if err := b.Write(t.Context(), readOf(fmt.Sprint(i))); !fault.Is(err, fault.Unavailable) {
					t.Errorf("Write = %v, want Unavailable", err)
				}
			})
		}
		all.Wait()
		if got := time.Since(start); got != DefaultTimeout {
			t.Errorf("the callers waited %v, want %v", got, DefaultTimeout)
		}
		start = time.Now()
		if err := b.Write(t.Context(), readOf("later")); !fault.Is(err, fault.Unavailable) || time.Since(start) != 0 {
			t.Errorf("the next Write = %v after %v, want to be refused at once", err, time.Since(start))
		}
		if b.Healthy() {
			t.Error("Healthy while the only device hangs")
		}
		if err := b.Reopen(); err == nil {
			t.Error("Reopen of a device that hangs succeeded")
		}
		time.Sleep(time.Hour)
		d.set(func(d *fakeDevice) { d.block = nil })
		close(block)
		time.Sleep(2 * lastRetry)
		if err := b.Write(t.Context(), readOf("after")); err != nil {
			t.Errorf("Write after the device was back: %v", err)
		}
		b.Close()
		verified(t, d)
	})
}

// TestBlockedReopen: a device that hangs while it is reopened, such as a file server that fails
// during a log rotation, delays requests no longer than its timeout.
func TestBlockedReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(fakeDevice)
		b := brokerOn(t, d)
		block := make(chan struct{})
		d.set(func(d *fakeDevice) { d.block = block })
		go b.Reopen()
		synctest.Wait()
		start := time.Now()
		if err := b.Write(t.Context(), readOf("1")); !fault.Is(err, fault.Unavailable) ||
			time.Since(start) > DefaultTimeout {
			t.Errorf("Write = %v after %v, want Unavailable within %v", err, time.Since(start), DefaultTimeout)
		}
		d.set(func(d *fakeDevice) { d.block = nil })
		close(block)
		time.Sleep(2 * lastRetry)
		if err := b.Write(t.Context(), readOf("2")); err != nil {
			t.Errorf("Write after the device was back: %v", err)
		}
		b.Close()
		verified(t, d)
	})
}

func TestBlockedDeviceAndWorkingOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, good := new(fakeDevice), new(fakeDevice)
		b := brokerOn(t, slow, good)
		block := make(chan struct{})
		slow.set(func(d *fakeDevice) { d.block = block })
		start := time.Now()
		for i := range 100 {
			if err := b.Write(t.Context(), readOf(fmt.Sprint(i))); err != nil {
				t.Fatal(err)
			}
		}
		if got := time.Since(start); got != 0 {
			t.Errorf("a write to a hanging and a working device took %v", got)
		}
		time.Sleep(DefaultTimeout)
		start = time.Now()
		if err := b.Disable("0/"); err != nil {
			t.Fatal(err)
		}
		if got := time.Since(start); got > stopWait {
			t.Errorf("disabling a device that hangs took %v", got)
		}
		close(block)
		b.Close()
		verified(t, good)
		synctest.Wait()
		if !slow.ended {
			t.Error("the device was not closed after its write returned")
		}
	})
}

// TestWriteEndsWithContext: a caller whose context ends does not wait for the device.
func TestWriteEndsWithContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(fakeDevice)
		b := brokerOn(t, d)
		block := make(chan struct{})
		d.set(func(d *fakeDevice) { d.block = block })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Write(ctx, readOf("1")); !fault.Is(err, fault.Timeout) {
			t.Errorf("Write = %v, want Timeout", err)
		}
		d.set(func(d *fakeDevice) { d.block = nil })
		close(block)
		b.Close()
		verified(t, d)
	})
}

// TestDisableUnderLoad: disabling a device makes no write fail.
func TestDisableUnderLoad(t *testing.T) {
	one, two := new(fakeDevice), new(fakeDevice)
	b := brokerOn(t, one, two)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := b.Write(t.Context(), readOf(fmt.Sprintf("%d-%d", w, i))); err != nil {
					t.Errorf("Write = %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		path := []string{"0/", "1/"}[i%2]
		if err := b.Disable(path); err != nil {
			t.Error(err)
		}
		if err := b.Enable(t.Context(), []*fakeDevice{one, two}[i%2].spec(path)); err != nil {
			t.Error(err)
		}
	}
	if err := b.Disable("0/"); err != nil {
		t.Error(err)
	}
	if err := b.Disable("1/"); err != nil {
		t.Error(err)
	}
	close(stop)
	all.Wait()
	verified(t, one)
	verified(t, two)
}

// TestDisableDuringWrite: if a device is disabled during a write, the write is repeated with the
// devices that are enabled then.
func TestDisableDuringWrite(t *testing.T) {
	for _, other := range []bool{false, true} {
		d, second := new(fakeDevice), new(fakeDevice)
		b := brokerOn(t, d)
		disable := sync.OnceFunc(func() {
			if err := b.Disable("0/"); err != nil {
				t.Error(err)
			}
			if other {
				if err := b.Enable(t.Context(), second.spec("1/")); err != nil {
					t.Error(err)
				}
			}
		})
		err := b.write(t.Context(), func(s *sink, g *group) {
			disable()
			g.text = s.lines.entry(g.text, readOf("between"))
			g.ends = append(g.ends, len(g.text))
		})
		if err != nil || strings.Contains(second.String(), "between") != other {
			t.Errorf("other=%v: %v\n%s", other, err, second)
		}
	}
}

// TestLateAlarm: a watchdog that fires after its call has returned does nothing.
func TestLateAlarm(t *testing.T) {
	b := brokerOn(t, new(fakeDevice))
	s := (*b.sinks.Load())[0]
	n := s.queue.beginCall()
	if s.queue.endCall() {
		t.Error("a call that returned at once was given up")
	}
	s.queue.giveUp(n)
	if !b.Healthy() {
		t.Error("a late alarm took the device down")
	}
}

// TestTooMuchWaits: the lines that wait for a slow device, while another is fast, are limited.
func TestTooMuchWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := new(fakeDevice)
		b := brokerOn(t, d)
		block := make(chan struct{})
		d.set(func(d *fakeDevice) { d.block = block })
		s := (*b.sinks.Load())[0]
		line := readOfSize(s, maxWaiting/2+1)
		for i, want := range []error{nil, nil, errFull} {
			if err := s.queue.join(line, newTally(1)); !errors.Is(err, want) {
				t.Errorf("batch %d: %v, want %v", i, err, want)
			}
			synctest.Wait() // the first is being written, the second waits
		}
		close(block)
	})
}

func readOfSize(s *sink, size int) *group {
	text := s.lines.entry(nil, readOf("1"))
	text = append(text[:len(text)-1], `,"error":"`...)
	text = append(text, bytes.Repeat([]byte{'x'}, size)...)
	text = append(text, `"}`...)
	g := &group{text: text, ends: []int{len(text)}}
	g.hash()
	return g
}

func TestRestoreOfMissingDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDevice{gone: errors.New("the disk is not mounted")}
		b := NewBroker(Options{})
		defer b.Close()
		if err := b.Enable(t.Context(), d.spec("0/")); err == nil || b.Enabled() {
			t.Errorf("Enable = %v, enabled %v; want an error and no device", err, b.Enabled())
		}
		if err := b.Restore(t.Context(), d.spec("0/")); err == nil {
			t.Error("Restore of a device that cannot be opened returned no error")
		}
		if err := b.Write(t.Context(), readOf("1")); !fault.Is(err, fault.Unavailable) || b.Healthy() {
			t.Errorf("Write = %v, Healthy = %v; a device that cannot be opened must fail closed", err, b.Healthy())
		}
		if st := b.Devices()[0]; st.Up || !strings.Contains(st.Cause, "not mounted") {
			t.Errorf("status = %+v", st)
		}
		d.set(func(d *fakeDevice) { d.gone = nil })
		time.Sleep(2 * lastRetry)
		if err := b.Write(t.Context(), readOf("2")); err != nil {
			t.Errorf("Write after the disk was mounted: %v", err)
		}
	})
}

// TestRestoreOfDamagedOptions: a device with unreadable options is enabled, but failing.
func TestRestoreOfDamagedOptions(t *testing.T) {
	b := NewBroker(Options{})
	defer b.Close()
	spec := new(fakeDevice).spec("0/")
	spec.Options = map[string]string{"log_raw": "perhaps"}
	if err := b.Restore(t.Context(), spec); !fault.Is(err, fault.Invalid) {
		t.Errorf("Restore = %v, want Invalid", err)
	}
	if err := b.Write(t.Context(), readOf("1")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Write = %v, want Unavailable", err)
	}
	if err := b.Disable("0/"); err != nil {
		t.Error(err)
	}
	if err := b.Write(t.Context(), readOf("1")); err != nil {
		t.Errorf("Write after disabling it: %v", err)
	}
}

func TestRefusedOptions(t *testing.T) {
	for _, test := range []struct{ option, value, want string }{
		{"prefix", "#!/bin/sh\n", "could turn the audit file into a script"},
		{"format", "jsonx", "not supported"},
		{"log_raw", "perhaps", "want true or false"},
		{"hmac_accessor", "2", "want true or false"},
		{"elide_list_responses", "no!", "want true or false"},
	} {
		b := NewBroker(Options{})
		spec := new(fakeDevice).spec("0/")
		spec.Options = map[string]string{test.option: test.value}
		err := b.Enable(t.Context(), spec)
		if !fault.Is(err, fault.Invalid) || !strings.HasPrefix(fault.Message(err), test.option+":") ||
			!strings.Contains(fault.Message(err), test.want) {
			t.Errorf("%s=%s: %v", test.option, test.value, err)
		}
		b.Close()
	}
	d := new(fakeDevice)
	b := brokerOn(t, d)
	if err := b.Enable(t.Context(), d.spec("0/")); !fault.Is(err, fault.Invalid) {
		t.Errorf("enabling twice at one path = %v", err)
	}
	spec := d.spec("1/")
	spec.Salt = secret.Text("short")
	if err := b.Enable(t.Context(), spec); !fault.Is(err, fault.Internal) {
		t.Errorf("enabling with a short salt = %v", err)
	}
	if err := b.Disable("1/"); !fault.Is(err, fault.NotFound) {
		t.Errorf("disabling an unknown device = %v", err)
	}
}

// TestPending: entries that no device can write are rendered and stored without secrets, and
// written in order when a device works again.
func TestPending(t *testing.T) {
	one, two := new(fakeDevice), new(fakeDevice)
	b := NewBroker(Options{})
	defer b.Close()
	raw := one.spec("raw/")
	raw.Options = map[string]string{"log_raw": "true"}
	if err := b.Restore(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	other := two.spec("other/")
	other.Salt = secret.Text("another salt, 31 bytes long too")
	if err := b.Enable(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	var stored [][]byte
	for i := range 3 {
		a := Expiry(fmt.Sprintf("expiry-%d", i), "database/creds/app/"+canaries[0].RevealString()[:4], Mount{})
		e := a.Request(time.Now())
		stored = append(stored, b.Render(e,
			e.Answered(time.Now(), &Response{Data: Data{V: map[string]secret.Value{"password": canaries[1]}}}, "")))
		if bytes.Contains(stored[i], canaries[1].Reveal()) {
			t.Fatalf("the stored line contains a secret: %s", stored[i])
		}
	}
	if err := b.Disable("other/"); err != nil {
		t.Fatal(err)
	}
	three := new(fakeDevice)
	if err := b.Enable(t.Context(), three.spec("new/")); err != nil {
		t.Fatal(err)
	}
	if err := b.WriteRendered(t.Context(), stored...); err != nil {
		t.Fatal(err)
	}
	b.Close()
	for _, d := range []*fakeDevice{one, three} {
		if r := verified(t, d); r.Lines != 7 {
			t.Errorf("%d lines, want 7", r.Lines)
		}
		text := d.String()
		if i, j := strings.Index(text, "expiry-0"), strings.LastIndex(text, "expiry-2"); i < 0 || j < i {
			t.Errorf("the entries are not in their order:\n%s", text)
		}
		if strings.Contains(text, canaries[1].RevealString()) {
			t.Errorf("a stored line contains a secret:\n%s", text)
		}
	}
	for _, damaged := range []string{
		"", "{", `{"lines":{"raw/":[1]}}`, `{"lines":{"raw/":["x"]}}`,
		"{\"lines\":{\"raw/\":[{\"time\":\"\"\n,\"a\":1}]}}",
	} {
		if err := b.WriteRendered(t.Context(), []byte(damaged)); !fault.Is(err, fault.Internal) {
			t.Errorf("WriteRendered(%q) = %v, want Internal", damaged, err)
		}
	}
}

// TestResume: the chain continues from a position that is stored elsewhere, so that a file whose
// end was cut off is detected.
func TestResume(t *testing.T) {
	d := new(fakeDevice)
	b := brokerOn(t, d)
	for i := range 5 {
		if err := b.Write(t.Context(), readOf(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	known := b.Positions()["0/"]
	b.Close()
	d.set(func(d *fakeDevice) {
		lines := bytes.SplitAfter(d.text.Bytes(), []byte{'\n'})
		d.text = *bytes.NewBuffer(bytes.Join(lines[:4], nil))
	})
	b = NewBroker(Options{})
	defer b.Close()
	spec := d.spec("0/")
	spec.Resume = known
	if err := b.Restore(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	report, err := Verify(strings.NewReader(d.String()))
	if err != nil || len(report.Problems) != 1 || !strings.Contains(report.Problems[0].Text, "2 lines are missing") {
		t.Errorf("Verify = %+v, %v; want two lines missing", report, err)
	}
}

func TestHash(t *testing.T) {
	b := brokerOn(t, new(fakeDevice))
	got, err := b.Hash("0/", secret.Text("test-string"))
	if err != nil || !strings.HasPrefix(got, "hmac-sha256:") || len(got) != len("hmac-sha256:")+64 {
		t.Errorf("Hash = %q, %v", got, err)
	}
	h := NewHasher(testSalt())
	if want := string(h.AppendString(nil, []byte("test-string"))); want != `"`+got+`"` {
		t.Errorf("Hash = %s, lines show %s", got, want)
	}
	if _, err := b.Hash("1/", secret.Text("x")); !fault.Is(err, fault.NotFound) {
		t.Errorf("Hash of an unknown device = %v", err)
	}
}
