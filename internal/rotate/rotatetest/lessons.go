package rotatetest

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// A LessonSubject is one credential that rotates, on a mount that one server has open, with its
// provider. Its functions are called in a bubble, which begins at midnight.
type LessonSubject struct {
	// Server is the server that has the mount open. Its due items are those of the mount.
	Server interface {
		Stop()
		Reopen(t testing.TB)
		Work(t testing.TB) int
	}
	// Mount returns the engine as it is open now.
	Mount func() Mount
	Kind  string
	Noun  string // what messages call it

	// Configure configures a rotation every 24 hours, with a grace period of at most two. The
	// credential may rotate at once.
	Configure func() error
	// Change writes the fields that plan rotations: rotation_period, rotation_schedule,
	// rotation_window and disable_automated_rotation.
	Change func(when map[string]any)
	// Unscheduled means that the credential has no rotation_schedule. Always means that it has no
	// disable_automated_rotation.
	Unscheduled, Always bool
	// Longest is the longest wait before a failed rotation is retried, without the random fifth
	// that is added. 0 means an hour.
	Longest time.Duration
	// Rotate requests a rotation, and waits until readers get the new credential.
	Rotate func() error
	// Issued returns the credential that readers get, which must work.
	Issued func() string
	// Works reports whether an earlier credential still works. nil means that the rotation ends
	// the old one.
	Works func(given string) bool
	// Made returns how often the provider was asked to create or to set a credential.
	Made func() int
	// Live returns the credentials at the provider. nil means that there is always exactly one.
	Live func() []string

	// Faults make the provider fail until Heal. They include "away", where the call has no
	// effect, and "lost", where the call has its effect and the reply is lost. An effect that a
	// fault delays comes within ten minutes.
	Faults map[string]func()
	Heal   func()
}

// A Mount is an engine whose credentials rotate.
type Mount interface {
	Rotations() *rotate.Manager
	Unfinished(ctx context.Context) error
}

// An Opener opens a mount over a store.
type Opener func(t *testing.T, store storage.Store) *LessonSubject

// Lessons tests what has hurt users of other servers, as docs/lessons.md lists it. Lessons also
// tests what users rely on besides: schedules, windows, requests, restarts, and failures of the
// provider and of the store. An engine's own tests cover what the engine adds.
func Lessons(t *testing.T, things map[string]Opener) {
	for name, open := range things {
		t.Run(name, func(t *testing.T) {
			for what, test := range map[string]func(s *lesson){
				"no early rotation": noEarlyRotation, "new times take effect": newTimesTakeEffect,
				"on request only":           onRequestOnly,
				"failures outlive restarts": failuresOutliveRestarts, "requests at once": requestsAtOnce,
				"unfinished":    unfinished,
				"missed window": missedWindow, "windows start fresh": windowsStartFresh,
			} {
				t.Run(what, func(t *testing.T) { open.bubble(t, func(s *lesson) { s.begin(); test(s) }) })
			}
			t.Run("failing calls", func(t *testing.T) { failingCalls(t, open) })
			t.Run("failing store", func(t *testing.T) { failingStore(t, open) })
			t.Run("crashes", func(t *testing.T) { crashes(t, open) })
		})
	}
}

// A lesson is a LessonSubject in a bubble, with the store under its mount.
type lesson struct {
	*testing.T
	*LessonSubject
	store *faulty.Store
}

func (open Opener) bubble(t *testing.T, test func(s *lesson)) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		store := faulty.New(faulty.Quiet(memory.Open()), 1)
		test(&lesson{t, open(t, store), store})
	})
}

// begin configures the credential, and rotates it once. It runs in a bubble.
func (s *lesson) begin() {
	s.Helper()
	if err := s.Configure(); err != nil {
		s.Fatal("configuring: ", err)
	}
	s.settle()
	if s.record().Turns == 0 {
		s.rotate()
	}
}

func (s *lesson) rotate() {
	s.Helper()
	if err := s.Rotate(); err != nil {
		s.Fatal("rotating: ", err)
	}
	s.settle()
}

// settle waits until the rotation in flight has ended, in a bubble.
func (s *lesson) settle() {
	s.Helper()
	for range 10 * 60 {
		if r := s.record(); r != nil && r.Turn == nil {
			return
		}
		time.Sleep(time.Minute)
	}
	s.Fatalf("the rotation has not ended in ten hours: %+v", s.record())
}

// record returns the only record of its kind, or nil.
func (s *lesson) record() *rotate.Record {
	s.Helper()
	for r, err := range s.Mount().Rotations().Records(context.Background(), s.Kind) {
		if err != nil {
			s.Fatal(err)
		}
		return r
	}
	return nil
}

// A snapshot holds the credential and the count of creating and setting calls at one moment.
type snapshot struct {
	issued string
	made   int
}

// snapshot returns the present snapshot, once all work that needs no waiting is done.
func (s *lesson) snapshot() snapshot {
	s.Helper()
	synctest.Wait()
	return snapshot{s.Issued(), s.Made()}
}

// wantRotations checks the number of rotations since a mark.
func (s *lesson) wantRotations(when string, rotations int, since snapshot) {
	s.Helper()
	now := s.snapshot()
	if now.made-since.made != rotations || (now.issued != since.issued) != (rotations > 0) {
		s.Errorf("%s (%s): %d rotations, and another credential is issued: %v; want %d", when,
			time.Now().UTC().Format("02 15:04"), now.made-since.made, now.issued != since.issued, rotations)
	}
}

// until sleeps, in a bubble, until the given time after the next rotation, or before it if after
// is negative.
func (s *lesson) until(after time.Duration) {
	s.Helper()
	time.Sleep(time.Until(s.record().Next.Add(after)))
	synctest.Wait()
}

// wantIdle checks that the provider has one credential and the server one due item: the next
// rotation.
func (s *lesson) wantIdle() {
	s.Helper()
	if s.Live != nil && (len(s.Live()) != 1 || !strings.Contains(s.Issued(), s.Live()[0])) {
		s.Errorf("the provider has %q; the issued credential is %.24s", s.Live(), s.Issued())
	}
	r := s.record()
	if n := s.Server.Work(s); n != 1 || r.LastError != "" || r.Alert != nil || r.Failures != 0 {
		s.Errorf("%d due items; error %q, alert %v, %d failures", n, r.LastError, r.Alert, r.Failures)
	}
}

// checkNext checks that nothing rotates early and that the next rotation comes on time, in a
// bubble.
func (s *lesson) checkNext() {
	s.Helper()
	before := s.snapshot()
	s.until(-10 * time.Minute)
	s.wantRotations("ten minutes before the next rotation", 0, before)
	s.wantIdle()
	s.until(10 * time.Minute)
	s.wantRotations("ten minutes after its time", 1, before)
	if works := s.Works != nil && s.Works(before.issued); works != (s.Works != nil) {
		s.Error("the previous credential has no grace period")
	}
}

// noEarlyRotation: a restart rotates nothing that is not due. A rotation that fell due while
// the server was down happens once, however long the server was down. Readers that read before it
// can continue, where the engine promises that. It runs in a bubble.
//
// https://github.com/hashicorp/vault/pull/29537
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/156
// https://developer.hashicorp.com/vault/docs/v1.19.x/updates/important-changes
// https://github.com/hashicorp/vault/issues/18738
func noEarlyRotation(s *lesson) {
	before, next := s.snapshot(), s.record().Next
	for end := next.Add(-time.Hour); time.Now().Before(end); time.Sleep(time.Hour) {
		s.Server.Reopen(s)
	}
	s.wantRotations("restarted every hour", 0, before)
	if now := s.record().Next; !now.Equal(next) {
		s.Errorf("a restart moves the next rotation from %s to %s", next, now)
	}
	s.Server.Stop()
	time.Sleep(4*24*time.Hour + time.Hour)
	s.Server.Reopen(s)
	time.Sleep(10 * time.Minute)
	s.wantRotations("after four periods without a server", 1, before)
	if s.Works != nil && !s.Works(before.issued) {
		s.Error("a reader that had read before lost its access")
	}
	s.settle()
	s.checkNext()
}

// newTimesTakeEffect: a change of the rotation times takes effect at once, also for longer
// periods and for schedules, without writing the other fields again. It runs in a bubble.
//
// https://github.com/hashicorp/vault/issues/21967
// https://github.com/hashicorp/vault/issues/27774
func newTimesTakeEffect(s *lesson) {
	was := s.record().Next
	s.until(-time.Hour)
	s.Change(map[string]any{"rotation_period": "48h"})
	if got := s.record().Next; got.Sub(was.Add(24*time.Hour)).Abs() > time.Second { // publishing takes time
		s.Errorf("a period that is a day longer moves the rotation from %s to %s", was, got)
	}
	s.checkNext()
	s.settle()
	s.Change(map[string]any{"rotation_period": "12h"})
	s.checkNext()
	s.settle()
	before := s.snapshot()
	s.Change(map[string]any{"rotation_period": "8h"})
	time.Sleep(time.Until(s.record().LastRotated.Add(9 * time.Hour)))
	s.wantRotations("an hour after the shorter period", 1, before)
	s.settle()
	if s.Unscheduled {
		return
	}
	s.Change(map[string]any{"rotation_schedule": "0 12 * * *"})
	if at := s.record().Next.UTC(); at.Hour() != 12 || at.Minute() != 0 || time.Until(at) > 24*time.Hour {
		s.Errorf("the schedule rotates it at %s", at)
	}
	s.checkNext()
	s.settle()
	s.Change(map[string]any{"rotation_period": "24h"}) // instead of the schedule
	s.checkNext()
}

// onRequestOnly: nothing rotates on its own, and rotations that were skipped are not made up
// for. It runs in a bubble.
//
// https://github.com/hashicorp/vault/issues/27165
// https://github.com/openbao/openbao/issues/284
func onRequestOnly(s *lesson) {
	if s.Always {
		s.Skip("it has no disable_automated_rotation")
	}
	s.Change(map[string]any{"disable_automated_rotation": true})
	before := s.snapshot()
	time.Sleep(72 * time.Hour)
	s.wantRotations("in three days without requests", 0, before)
	if n := s.Server.Work(s); n != 0 {
		s.Errorf("%d due items", n)
	}
	s.rotate()
	s.wantRotations("after a request", 1, before)
	time.Sleep(48 * time.Hour)
	s.Change(map[string]any{"disable_automated_rotation": false, "rotation_period": "12h"})
	time.Sleep(time.Minute)
	s.wantRotations("overdue because of the new period", 2, before)
}

// failuresOutliveRestarts: a failed rotation is retried, and the retries continue however often
// the server restarts. The record reports the failure, and the issued credential keeps working.
// No part of the queue is in memory alone. It runs in a bubble.
//
// https://github.com/hashicorp/vault/pull/23673
// https://github.com/hashicorp/vault/issues/21857
// https://github.com/hashicorp/vault/issues/7502
// https://github.com/hashicorp/vault/issues/7222
func failuresOutliveRestarts(s *lesson) {
	before := s.Issued()
	s.until(-time.Minute)
	s.Faults["away"]()
	for range 30 {
		time.Sleep(50 * time.Minute)
		s.Server.Reopen(s)
	}
	if r := s.record(); r.Failures < 5 || r.LastError == "" || r.Alert == nil || s.Server.Work(s) != 1 {
		s.Errorf("a day later: %d failures, error %q, alert %v, %d due items", r.Failures, r.LastError, r.Alert,
			s.Server.Work(s))
	}
	s.Heal()
	if s.Issued() != before {
		s.Error("another credential is issued")
	}
	time.Sleep(cmp.Or(s.Longest, time.Hour) * 5 / 4)
	if s.Issued() == before {
		s.Error("it is not retried")
	}
	s.settle()
	s.checkNext()
}

// requestsAtOnce: many clients request a rotation at the same moment. The rotations run one after
// another, the issued credential works, and nothing unknown is left at the provider. It runs in a
// bubble.
//
// https://github.com/hashicorp/vault-plugin-secrets-azure/pull/266
func requestsAtOnce(s *lesson) {
	var all sync.WaitGroup
	done := make(chan bool, 12)
	for i := range cap(done) {
		all.Go(func() {
			time.Sleep(time.Duration(i%3) * time.Second)
			err := s.Rotate()
			if done <- err == nil; err != nil && !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Conflict) {
				s.Errorf("rotating: %v", err) // while the previous credential is valid there may be no free slot
			}
		})
	}
	all.Wait()
	close(done)
	n := 0
	for ok := range done {
		if ok {
			n++
		}
	}
	s.Issued()
	if n == 0 {
		s.Error("all requests were refused")
	}
	s.settle()
	s.checkNext()
}

// unfinished: a mount must not be disabled while it is unknown which secret is in force, or while
// a replaced credential still works. It runs in a bubble.
func unfinished(s *lesson) {
	if err := s.Mount().Unfinished(context.Background()); err != nil {
		s.Errorf("no rotation is in flight: %v", err)
	}
	s.Faults["lost"]()
	_ = s.Rotate()
	if s.record().Turn != nil { // otherwise the outcome was found out at once
		if err := s.Mount().Unfinished(context.Background()); !fault.Is(err, fault.Conflict) ||
			!strings.Contains(fault.Message(err), s.Noun) {
			s.Errorf("during a rotation: %v", err)
		}
	}
	s.Heal()
	s.settle()
	if err := s.Mount().Unfinished(context.Background()); err != nil {
		s.Errorf("the rotation has ended: %v", err)
	}
}

// nightly configures a rotation in one hour of the night, in a bubble, and returns at a midnight.
func (s *lesson) nightly() {
	if s.Unscheduled {
		s.Skip("it has no rotation_schedule")
	}
	s.Change(map[string]any{"rotation_schedule": "0 3 * * *", "rotation_window": "1h"})
	time.Sleep(time.Until(time.Now().Truncate(24 * time.Hour).Add(48 * time.Hour)))
}

// missedWindow: a server that was down during the window does not rotate outside of the window.
// The server reports the missed window, and rotates at the next time. It runs in a bubble.
//
// https://github.com/openbao/openbao/issues/3637
// https://github.com/hashicorp/vault/issues/18738
func missedWindow(s *lesson) {
	s.nightly()
	before := s.snapshot()
	s.Server.Stop()
	time.Sleep(5 * time.Hour)
	s.Server.Reopen(s)
	time.Sleep(2 * time.Minute)
	s.wantRotations("after the window", 0, before)
	if why := s.record().LastError; !strings.Contains(why, "T03:00:00Z was missed") {
		s.Errorf("the error is %q", why)
	}
	time.Sleep(21 * time.Hour)
	s.wantRotations("before the next window", 0, before)
	time.Sleep(time.Hour)
	s.wantRotations("at the next time", 1, before)
}

// windowsStartFresh: the last attempt of a window comes at its end, and none comes after it.
// Failures in one window do not slow the retries in the next one. It runs in a bubble.
//
// https://github.com/openbao/openbao/issues/3637
func windowsStartFresh(s *lesson) {
	s.nightly()
	first := s.Issued()
	s.Faults["away"]()
	time.Sleep(3*time.Hour + 58*time.Minute)
	s.Heal()
	time.Sleep(3 * time.Minute)
	second := s.Issued()
	if second == first {
		s.Error("it is not retried before the window ends")
	}
	time.Sleep(22 * time.Hour)
	s.Faults["away"]()
	time.Sleep(2*time.Hour + time.Minute)
	s.Heal()
	time.Sleep(20 * time.Hour)
	if s.Issued() != second {
		s.Error("it was rotated outside its window")
	}
	if s.record().LastError == "" {
		s.Error("the record does not say why the window was missed")
	}
	time.Sleep(2*time.Hour + 57*time.Minute)
	s.Faults["away"]()
	time.Sleep(90 * time.Second)
	s.Heal()
	time.Sleep(10 * time.Minute)
	if s.Issued() == second {
		s.Error("it was not retried after half a minute of failures")
	}
}

// failingCalls: any call fails, before or after its effect, in a rotation on schedule or on
// request, with or without the process dying. The issued credential works, the next rotation
// comes on time and not before, and nothing is left at the provider.
//
// https://github.com/hashicorp/vault/pull/12563
// https://github.com/hashicorp/vault-plugin-secrets-openldap/pull/28
// https://github.com/hashicorp/vault-plugin-secrets-azure/pull/266
// https://github.com/hashicorp/vault/pull/23673
func failingCalls(t *testing.T, open Opener) {
	var faults map[string]func()
	open.bubble(t, func(s *lesson) { faults = s.Faults })
	for name := range faults {
		for _, asked := range []bool{false, true} {
			for _, dies := range []bool{false, true} {
				t.Run(fmt.Sprint(name, "/", asked, "/", dies), func(t *testing.T) {
					open.bubble(t, func(s *lesson) {
						s.begin()
						s.provoke(asked, s.Faults[name])
						s.recover(dies, s.Heal)
					})
				})
			}
		}
	}
}

// provoke makes the credential rotate, on request or on schedule, once something fails. It runs
// in a bubble.
func (s *lesson) provoke(asked bool, fail func()) {
	if asked {
		time.Sleep(6 * time.Hour)
		fail()
		_ = s.Rotate()
		return
	}
	at := s.record().Next
	time.Sleep(time.Until(at) - time.Second)
	fail()
	time.Sleep(20 * time.Second)
}

// recover ends the failure, perhaps after the process has died, and checks that everything
// recovers. It runs in a bubble.
func (s *lesson) recover(dies bool, heal func()) {
	s.Helper()
	if dies {
		s.Server.Stop()
	}
	heal()
	if dies {
		s.Server.Reopen(s)
	}
	s.snapshot()
	for range 80 { // first the outcome of earlier calls becomes known
		if time.Sleep(time.Minute); s.Rotate() == nil {
			break
		}
	}
	s.settle()
	s.checkNext()
}

// failingStore: the store fails at any commit of a rotation, stored or not, until it is repaired.
// Without the first commit, the provider receives no call. Once the store is back, the issued
// credential works.
//
// https://github.com/hashicorp/vault/issues/6042
// https://github.com/hashicorp/vault/pull/8782
func failingStore(t *testing.T, open Opener) {
	for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
		for after := range 5 {
			for _, asked := range []bool{false, true} {
				for _, dies := range []bool{false, true} {
					t.Run(fmt.Sprint(mode, "/", after, "/", asked, "/", dies), func(t *testing.T) {
						open.bubble(t, func(s *lesson) {
							s.begin()
							made := s.Made()
							s.provoke(asked, func() {
								s.store.Inject(faulty.Fault{Calls: faulty.Commits, After: after, Times: -1,
									Mode: mode})
							})
							if n := s.Made() - made; after == 0 && n != 0 {
								s.Errorf("the provider received %d calls without a durable intent", n)
							}
							s.recover(dies, s.store.Clear)
						})
					})
				}
			}
		}
	}
}

// crashes: the process dies at a commit of its configuration or of its rotations, stored or not,
// while a call fails too. Afterwards the issued credential works, and rotations continue. Each
// runs in a bubble.
//
// https://github.com/hashicorp/vault/issues/6042
// https://github.com/hashicorp/vault/pull/8782
func crashes(t *testing.T, open Opener) {
	for _, first := range []string{"", "lost", "away"} {
		for _, mode := range []faulty.Mode{faulty.NotStored, faulty.Stored} {
			for at := range 10 {
				t.Run(fmt.Sprint(first, "/", mode, "/", at), func(t *testing.T) {
					open.bubble(t, func(s *lesson) {
						if first != "" {
							s.Faults[first]()
						}
						s.store.CrashAfter(at, mode)
						_ = s.Configure()
						s.Heal()
						s.die()
						time.Sleep(20 * time.Minute)
						if r := s.record(); r == nil || r.Next.IsZero() { // the configuration was not stored
							if err := s.Configure(); err != nil {
								s.Fatal(err)
							}
						}
						if s.settle(); s.record().Current == nil { // the first one surely failed
							s.rotate()
						}
						s.recover(false, func() {})
					})
				})
			}
		}
	}
}

// die sends one request after another, in a bubble, until the process dies, and restarts the
// process.
func (s *lesson) die() {
	s.Helper()
	dead := func() bool {
		select {
		case <-s.store.Crashed():
			return true
		default:
			return false
		}
	}
	for range 4 * 60 {
		if dead() {
			s.Server.Stop()
			s.store.Revive()
			s.Server.Reopen(s)
			return
		}
		if s.Rotate() != nil && !dead() {
			_ = s.Configure()
		}
		time.Sleep(time.Minute)
	}
	s.Errorf("the process did not die: there are only %d commits", s.store.Commits())
}
