package rotate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// A behavior is how the provider behaves in one call.
type behavior string

const (
	succeeds   behavior = ""
	away       behavior = "away"    // the provider is not reached: surely no effect
	lost       behavior = "lost"    // an effect, and the reply is lost
	cut        behavior = "cut"     // no effect, and the reply is lost
	hang       behavior = "hang"    // no effect and no reply, until the caller gives up
	late       behavior = "late"    // the effect comes after the caller has given up
	refuse     behavior = "refuse"  // refused for good: surely no effect
	lies       behavior = "lie"     // no effect, but the provider reports success
	untestable behavior = "blind"   // a login cannot be tested from here
	diesBefore behavior = "diesNow" // the process dies before the call
	diesAfter  behavior = "diesToo" // the process dies after the call
)

// provider is where accounts have secrets.
type provider struct {
	mu     sync.Mutex
	has    map[string]string // by account
	calls  []string          // "set a a#1", "verify a a#1"
	behave func(call, account string) behavior
	on     func(call string) // before a call
	die    func()
}

func (p *provider) works(account, word string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.has[account] == word
}

func (p *provider) count(prefix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func failure(o rotate.Outcome, text string) error {
	return &rotate.Failure{Outcome: o, Err: fault.New("fake", fault.Upstream, "%s", text)}
}

var errDied = errors.New("the process died")

// do makes one call with its behavior.
func (p *provider) do(ctx context.Context, call, id, account string, act func() error) error {
	if p.on != nil {
		p.on(call)
	}
	p.mu.Lock()
	p.calls = append(p.calls, call+" "+id)
	f := succeeds
	if p.behave != nil {
		f = p.behave(call, account)
	}
	p.mu.Unlock()
	locked := func() error { p.mu.Lock(); defer p.mu.Unlock(); return act() }
	switch f {
	case away:
		return failure(rotate.Transient, "away")
	case refuse:
		return failure(rotate.Permanent, "refused")
	case untestable:
		return failure(rotate.Untested, "not from here")
	case cut:
		return failure(rotate.Unknown, "cut")
	case lies:
		return nil
	case hang:
		<-ctx.Done()
		return failure(rotate.Unknown, "timed out")
	case late:
		<-ctx.Done()
		time.AfterFunc(3*time.Second, func() { _ = locked() })
		return failure(rotate.Unknown, "timed out")
	case lost:
		_ = locked()
		return failure(rotate.Unknown, "lost")
	case diesBefore:
		p.die()
		return errDied
	case diesAfter:
		_ = locked()
		p.die()
		return errDied
	}
	return locked()
}

// account is the target: one account, or two that alternate.
type account struct {
	p     *provider
	w     *world
	r     *rotate.Record
	data  data
	place string
}

// data is the engine's own configuration.
type data struct {
	Accounts []string  `json:"accounts"`
	When     cron.When `json:"when"`
	Note     string    `json:"note"`
}

func (a *account) Capabilities() rotate.Capabilities {
	return rotate.Capabilities{Proof: rotate.ProofUse, Retry: a.w.retry}
}
func (a *account) Settle() rotate.Settle { return rotate.Settle{} }
func (a *account) Place() *rotate.Place  { return nil }

func (a *account) Verify(ctx context.Context, c rotate.Credential) error {
	return a.p.do(ctx, "verify", c.ID, c.Account, func() error {
		if a.p.has[c.Account] != c.Secret["word"].RevealString() {
			return failure(rotate.Rejected, "wrong word")
		}
		return nil
	})
}

func (a *account) VerifyDead(context.Context, rotate.Credential) error {
	return failure(rotate.Permanent, "not for this style")
}

func (a *account) Generate(context.Context) (rotate.Credential, error) {
	if a.w.generateErr != nil {
		return rotate.Credential{}, a.w.generateErr
	}
	name := a.data.Accounts[0]
	if c := a.r.Current; len(a.data.Accounts) == 2 && c != nil && c.Account == name {
		name = a.data.Accounts[1]
	}
	a.w.made++
	word := fmt.Sprintf("canary-%d", a.w.made)
	c := rotate.Credential{ID: fmt.Sprintf("%s#%d", name, a.w.made), Account: name,
		Secret: map[string]secret.Value{"word": secret.Text(word)}, Public: map[string]string{"place": a.place}}
	if a.w.lifetime > 0 {
		c.Expires = time.Now().Add(a.w.lifetime)
	}
	return c, nil
}

func (a *account) Set(ctx context.Context, from, to rotate.Credential) error {
	return a.p.do(ctx, "set", to.ID, to.Account, func() error {
		if a.w.ownPassword && a.p.has[to.Account] != from.Secret["word"].RevealString() {
			return failure(rotate.Permanent, "the user cannot log in to change its own")
		}
		a.p.has[to.Account] = to.Secret["word"].RevealString()
		return nil
	})
}

func (a *account) Outdated(c rotate.Credential) bool { return c.Public["place"] != a.place }

func (a *account) Join(_ context.Context, r *rotate.Record, s *rotate.Secrets) ([]storage.Op, error) {
	a.data.Note = "joined " + r.Current.ID
	var err error
	r.Data, err = json.Marshal(a.data)
	return []storage.Op{storage.Set("joined/"+r.Name, []byte(s.Keys[r.Current.ID].Secret["word"].RevealString()))}, err
}

// world is one mount over a store that can fail. Its process dies and starts again. It has one
// record, of accounts or, under an [issuer], of pairs.
type world struct {
	*testing.T
	store   *faulty.Store
	root    secret.Value
	view    *barrier.View // of the mount
	abs     *barrier.View // of the whole store
	m       *rotate.Manager
	kind    func() rotate.Kind
	p       *provider
	dead    bool
	openErr error             // the error of opening the target
	from    time.Time         // the last position that the due item was moved from
	slow    func(what string) // called before a commit with an event; nil: nothing is slow
	audited []rotate.Action

	place       string
	ownPassword bool          // users change their own secrets
	retry       rotate.Retry  // what may follow a call of unknown outcome
	lifetime    time.Duration // of a credential
	made        int
	generateErr error
	when        cron.When // instead of the records' own
	logged      bytes.Buffer
	log         *slog.Logger // into logged, of all managers
	mu          sync.Mutex
	events      []string
}

const kind = "account"

func newWorld(t *testing.T) *world {
	w := newMount(t)
	w.kind = w.accounts
	w.boot()
	return w
}

func newMount(t *testing.T) *world {
	w := &world{T: t, store: faulty.New(memory.Open(), 1), root: secret.New(make([]byte, barrier.RootKeySize)),
		place: "here"}
	w.log = slog.New(slog.NewTextHandler(&w.logged, nil))
	w.p = &provider{has: map[string]string{"a": "by hand", "b": "by hand"},
		die: func() { w.dead = true; w.store.CrashAfter(0, faulty.NotStored) }}
	if err := barrier.Initialize(t.Context(), w.store, w.root); err != nil {
		t.Fatal(err)
	}
	return w
}

// boot restarts the process.
func (w *world) boot() {
	w.Helper()
	w.store.Revive()
	w.store.Clear()
	w.dead = false
	w.m = w.manager()
}

func (w *world) crashed() bool {
	select {
	case <-w.store.Crashed():
		return true
	default:
		return w.dead
	}
}

// manager returns another server over the store.
func (w *world) manager() *rotate.Manager {
	w.Helper()
	b, err := barrier.Open(context.Background(), w.store, w.root)
	if err != nil {
		w.Fatal(err)
	}
	w.view, w.abs = b.View("mount/"), b.View("")
	return rotate.New(rotate.Config{
		Store: w.view, Log: w.log, Installation: "test", Mount: func() string { return "mount/" },
		Schedule: func(kind, name string, from, to time.Time) (ops []storage.Op) {
			if w.from = from; to.IsZero() {
				return append(ops, storage.Remove("due/"+kind+"/"+name))
			}
			return append(ops, storage.Set("due/"+kind+"/"+name, []byte(to.Format(time.RFC3339Nano))))
		},
		Event: func(kind string, details map[string]string) storage.Op {
			if w.slow != nil {
				w.slow(kind)
			}
			text := kind
			for k, v := range details {
				text += " " + k + "=" + v
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.events = append(w.events, text)
			return storage.Append("event/", []byte(text))
		},
		Audited: func(ctx context.Context, a rotate.Action, act func(context.Context) error) error {
			w.audited = append(w.audited, a)
			return act(ctx)
		},
	}, w.kind())
}

// accounts returns the kind of secrets that are replaced in place.
func (w *world) accounts() rotate.Kind {
	decoded := func(r *rotate.Record) (d data) {
		if len(r.Data) > 0 {
			if err := json.Unmarshal(r.Data, &d); err != nil {
				w.Fatal(err)
			}
		}
		return d
	}
	return rotate.Kind{
		Name: kind, Noun: "account", Style: rotate.InPlace, Records: "r/", Secrets: "s/", History: "h/", Journal: "j/",
		Path:    func(name string) string { return "accounts/" + name },
		Details: func(r *rotate.Record) map[string]string { return map[string]string{"account": r.Name} },
		Timing: func(r *rotate.Record) rotate.Timing {
			if w.when != (cron.When{}) {
				return rotate.Timing{When: w.when}
			}
			return rotate.Timing{When: decoded(r).When}
		},
		Open: func(_ context.Context, r *rotate.Record, _ *rotate.Secrets, _ *secret.Redactor) (rotate.Target, error) {
			if w.openErr != nil {
				return nil, w.openErr
			}
			return &account{p: w.p, w: w, r: r, data: decoded(r), place: w.place}, nil
		},
		Migrate: adoptOld,
	}
}

// adoptOld reads a row of an earlier version: its "current" was a number.
func adoptOld(row []byte, r *rotate.Record) (*rotate.Secrets, error) {
	if len(r.Data) > 0 {
		return nil, nil
	}
	var old struct {
		Current int    `json:"current"`
		User    string `json:"user"`
		Word    string `json:"word"`
	}
	if json.Unmarshal(row, &old) != nil || old.User == "" {
		return nil, nil
	}
	r.Tag, r.Current = "old", &rotate.Ref{ID: old.User + "#0", Account: old.User}
	r.Data = json.RawMessage(fmt.Sprintf(`{"accounts":[%q]}`, old.User))
	return &rotate.Secrets{Admin: map[string]secret.Value{}, Keys: map[string]rotate.Credential{
		old.User + "#0": {ID: old.User + "#0", Account: old.User,
			Secret: map[string]secret.Value{"word": secret.Text(old.Word)},
			Public: map[string]string{"place": "here"}},
	}}, nil
}

// create creates the record "one", which rotates every hour. Its current secret is known.
func (w *world) create(accounts ...string) {
	w.Helper()
	w.change(func(e *rotate.Edit) error {
		d := data{Accounts: accounts, When: cron.When{Period: time.Hour}}
		e.Rec.Data, _ = json.Marshal(d)
		e.Rec.Next = e.Now.Add(time.Hour)
		first := rotate.Credential{ID: accounts[0] + "#0", Account: accounts[0],
			Secret: map[string]secret.Value{"word": secret.Text("by hand")},
			Public: map[string]string{"place": "here"}}
		if err := e.Control().SetCurrent(context.Background(), first, ""); err != nil {
			return err
		}
		return e.Commit(context.Background(), "created-key", e.Planned())
	})
}

func (w *world) change(f func(e *rotate.Edit) error) {
	w.Helper()
	if err := w.m.Change(context.Background(), kind, "one", nil, f); err != nil {
		w.Fatal(err)
	}
}

// record returns the record, or nil.
func (w *world) record() *rotate.Record {
	w.Helper()
	r, _, err := w.m.Read(context.Background(), kind, "one")
	if err != nil {
		w.Fatal(err)
	}
	return r
}

// edit reads the record with its secrets.
func (w *world) edit() *rotate.Edit {
	w.Helper()
	e, err := w.m.View(context.Background(), kind, "one")
	if err != nil || e == nil {
		w.Fatalf("the record is %v, %v", e, err)
	}
	if err := e.Unlock(context.Background()); err != nil {
		w.Fatal(err)
	}
	return e
}

func (w *world) currentSecret() (account, word string) {
	w.Helper()
	e := w.edit()
	return e.Rec.Current.Account, e.Sec.Keys[e.Rec.Current.ID].Secret["word"].RevealString()
}

// wantWorks checks that the current secret works.
func (w *world) wantWorks(when string) {
	w.Helper()
	if account, word := w.currentSecret(); !w.p.works(account, word) {
		w.Errorf("%s: the current secret, %s of %s, does not work", when, word, account)
	}
}

// rotate requests a rotation: it continues the rotation in flight, or begins one.
func (w *world) rotate() error {
	return w.m.Change(context.Background(), kind, "one", errors.New("no record"), func(e *rotate.Edit) error {
		if e.Rec.Turn == nil {
			if _, err := e.Control().RotateNow(context.Background(), rotate.RotateRequest{By: "tester"}); err != nil {
				return err
			}
		}
		return e.Control().Drive(context.Background(), func(*rotate.Record) bool { return false })
	})
}

// due returns when the due item falls due; zero if there is none.
func (w *world) due() (at time.Time) {
	w.Helper()
	due, err := w.abs.Get(context.Background(), "due/"+kind+"/one")
	if err != nil {
		w.Fatal(err)
	}
	at, _ = time.Parse(time.RFC3339Nano, string(due.Value))
	if r := w.record(); r != nil && !at.Equal(r.Due) {
		w.Errorf("the due item is at %s, and the record says %s", at, r.Due)
	}
	return at
}

// runUntil does due work until a time, as the due loop does, or until the process dies. It runs in
// a bubble.
func (w *world) runUntil(until time.Time) {
	w.Helper()
	w.work(until, func(error) { time.Sleep(10 * time.Second) })
}

// work is runUntil with a function that handles the error of a failed step. It runs in a bubble.
func (w *world) work(until time.Time, failed func(err error)) {
	w.Helper()
	for !w.crashed() && !time.Now().After(until) {
		at := w.due()
		if at.IsZero() || at.After(until) {
			time.Sleep(time.Until(until))
			return
		}
		time.Sleep(time.Until(at))
		if err := w.m.Work(context.Background(), kind, "one"); err != nil {
			failed(err)
		}
	}
}

// sleepUntilDue waits in a bubble.
func (w *world) sleepUntilDue() { w.Helper(); time.Sleep(time.Until(w.due())) }

// runFor runs for a duration, and restarts the process whenever it has died.
func (w *world) runFor(d time.Duration) {
	w.Helper()
	for until := time.Now().Add(d); time.Now().Before(until); {
		w.runUntil(until)
		if w.crashed() {
			w.boot()
		}
	}
}

// stored counts the rows below a prefix.
func (w *world) stored(prefix string) (n int) {
	w.Helper()
	for _, err := range w.view.Scan(context.Background(), prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			w.Fatal(err)
		}
		n++
	}
	return n
}

// checkEnd checks that the rotation has ended without an error, and that nothing superfluous is
// kept.
func (w *world) checkEnd() {
	w.Helper()
	w.wantWorks("at the end")
	e := w.edit()
	r := e.Rec
	if r.Turn != nil || r.LastError != "" || r.Failures != 0 || r.Alert != nil {
		w.Errorf("at the end: rotation %+v, error %q, %d failures, alert %v", r.Turn, r.LastError, r.Failures, r.Alert)
	}
	keep := map[string]bool{r.Current.ID: true}
	for _, idle := range r.Idle {
		keep[idle.ID] = true
		if c := e.Sec.Keys[idle.ID]; !w.p.works(c.Account, c.Secret["word"].RevealString()) {
			w.Errorf("the idle secret of %s does not work", c.Account)
		}
	}
	if have := maps.Keys(e.Sec.Keys); len(e.Sec.Keys) != len(keep) {
		w.Errorf("secrets %v are kept, want %v", have, keep)
	}
	past, err := w.m.Past(context.Background(), kind, "one")
	if err != nil || len(past) != min(int(r.Turns), rotate.MaxHistory) {
		w.Errorf("%d rotations in the history, %v, want %d", len(past), err, r.Turns)
	}
	if row, err := w.view.Get(context.Background(), "joined/one"); err != nil || r.Turns > 0 && !r.Current.Adopted &&
		string(row.Value) != e.Sec.Keys[r.Current.ID].Secret["word"].RevealString() {
		w.Errorf("the engine's own row holds %q, %v", row.Value, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.events {
		if strings.Contains(text, "canary") || strings.Contains(text, "by hand") {
			w.Errorf("an event holds a secret: %s", text)
		}
	}
}
