package rotate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// An Edit is one record in hand, with its lock held: what was read, what was changed, and the
// means to commit the change. Its [Control] offers the requests that may be made.
type Edit struct {
	Rec      *Record
	Sec      *Secrets // once unlocked
	Now      time.Time
	Redactor *secret.Redactor // knows every secret of Sec

	// Ops join the next commit, on keys relative to the mount's store; Abs join it on absolute
	// keys.
	Ops, Abs []storage.Op

	m         *Manager
	kind      *Kind
	version   storage.Version // of the record; 0: it is new
	due       time.Time       // where the due item is, as the record is stored
	current   string          // the credential that is current, as the record is stored
	target    Target          // once opened
	can       Capabilities    // of target
	working   bool            // on a due item, which must move
	retryNow  bool            // the step in flight is tried at once
	details   map[string]string
	auditErr  error      // of the external call, for the audit log
	logErr    *Error     // of the external call, for the log, once it is committed
	exchanges []Exchange // requests that no commit holds yet
	counted   int        // of them in Kept of the rotation in flight
	quiet     bool       // the commit in progress has no journal row, no event and no exchanges
	missed    time.Time  // the rotation whose window is over, for the log, once it is committed
	limits    Limits     // of the mount, as of when the record was loaded
}

// load reads a record to change it, or returns nil if there is none. The caller holds the
// record's lock, or changes nothing.
func (m *Manager) load(ctx context.Context, k *Kind, name string) (*Edit, error) {
	row, err := m.cfg.Store.Get(ctx, k.Records+name)
	if err != nil {
		return nil, err
	}
	e, err := m.edit(ctx, k, &Record{Name: name})
	if err != nil {
		return nil, err
	}
	e.version = row.Version
	switch {
	case row.Version != 0:
		e.Sec, err = k.decode(row, e.Rec)
	case k.Missing == nil:
		return nil, nil
	default:
		e.Rec, e.Sec, err = k.Missing(ctx, name)
	}
	if err != nil || e.Rec == nil {
		return nil, err
	}
	if until, known := m.returnedCalls.Load(k.Records + name); known && e.Rec.CallUntil.Equal(until.(time.Time)) {
		e.Rec.CallUntil = time.Time{} // the commit after the call has failed
	}
	e.due, e.current = e.Rec.Due, e.Rec.Current.Key()
	if e.Sec != nil {
		e.Sec.Know(e.Redactor)
	}
	return e, nil
}

func (m *Manager) edit(ctx context.Context, k *Kind, r *Record) (e *Edit, err error) {
	all, err := k.limits(ctx)
	return &Edit{m: m, kind: k, Rec: r, Now: time.Now().UTC(), Redactor: new(secret.Redactor),
		limits: all}, err
}

// decode reads a row into the record that into names. decode returns the secrets that a row of an
// earlier version holds.
func (k *Kind) decode(row storage.Entry, into *Record) (*Secrets, error) {
	name := into.Name
	err := decode(row, into)
	if err == nil {
		err = readOldLook(row, into)
	}
	_, other := errors.AsType[*json.UnmarshalTypeError](err)
	if k.Migrate == nil || err != nil && !other {
		return nil, err
	}
	if other { // a field of the name had another type
		*into = Record{Name: name}
	}
	s, aerr := k.Migrate(row.Value, into)
	if aerr == nil && s == nil {
		aerr = err
	}
	return s, aerr
}

// readOldLook reads the plan of the next look from a row of an earlier version, which had it in
// three fields of their own.
func readOldLook(row storage.Entry, r *Record) error {
	if r.Look != (Look{}) || !bytes.Contains(row.Value, []byte(`"look":`)) {
		return nil
	}
	var old struct {
		At     time.Time `json:"look"`
		Failed int       `json:"looks"`
		By     string    `json:"wrote"`
	}
	err := decode(row, &old)
	r.Look = Look{At: old.At, Failed: old.Failed, By: old.By}
	return err
}

// New reports whether the record is not stored yet.
func (e *Edit) New() bool { return e.version == 0 }

// CurrentID returns the current credential of the record as stored. Changes of a failed commit do
// not count.
func (e *Edit) CurrentID() string { return e.current }

// Unlock reads the record's secrets. Later commits write the secrets with the record.
func (e *Edit) Unlock(ctx context.Context) error {
	if e.Sec != nil {
		return nil
	}
	row, err := e.m.cfg.Store.Get(ctx, e.kind.Secrets+e.Rec.Name)
	if err != nil {
		return err
	}
	s, err := decodeSecrets(row.Value)
	if err != nil {
		return err
	}
	s.Know(e.Redactor)
	e.Sec = s
	return nil
}

func (e *Edit) open(ctx context.Context) error {
	if err := e.Unlock(ctx); err != nil {
		return err
	}
	t, err := e.kind.Open(ctx, e.Rec, e.Sec, e.Redactor)
	if err != nil {
		return err
	}
	e.target, e.can = t, t.Capabilities()
	return nil
}

func (e *Edit) turn() *Turn { return e.Rec.Turn }

func (e *Edit) timing() Timing {
	t := e.kind.Timing(e.Rec)
	t.When.Blackout = t.When.Blackout.Join(e.limits.Blackout)
	return t
}

// name returns the record's name for messages: key "stripe".
func (e *Edit) name() string { return fmt.Sprintf("%s %q", e.kind.Noun, requestName(e.kind, e.Rec)) }

// addDetail adds a detail to the event and the journal row of the next commit. Values must not be
// secret.
func (e *Edit) addDetail(name, value string) {
	if e.details == nil {
		e.details = map[string]string{}
	}
	e.details[name] = value
}

// Commit stores the record, its secrets if they were read, a row of the journal and an event.
// Commit moves the due item to due; a zero due removes the item. what is a slug that names what
// happened.
func (e *Edit) Commit(ctx context.Context, what string, due time.Time) error {
	if err := trim(ctx, e); err != nil {
		return err
	}
	ops, abs, err := e.batch(what, due)
	if err != nil {
		return err
	}
	v, err := e.m.cfg.Store.CommitWith(ctx, ops, abs)
	if err != nil {
		return err
	}
	e.committed(v)
	return nil
}

// commitKept is Commit for a result that exists nowhere else. commitKept retries for a while, and
// recognises its own commit if the reply was lost.
func commitKept(ctx context.Context, e *Edit, what string, due time.Time) error {
	ops, abs, err := e.batch(what, due)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		v, err := e.m.cfg.Store.CommitWith(ctx, ops, abs)
		if err == nil {
			e.committed(v)
			return nil
		}
		if errors.Is(err, storage.ErrConflict) && try > 1 {
			row, rerr := e.m.cfg.Store.Get(ctx, e.kind.Records+e.Rec.Name)
			var there Record
			if rerr == nil && decode(row, &there) == nil && there.Turn != nil &&
				there.Turn.New.Key() == e.turn().New.Key() {
				e.committed(row.Version)
				return nil
			}
		}
		if try == 5 || ctx.Err() != nil || errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrTooLarge) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// expectUnchanged returns the operation that makes another commit to the mount's store fail if the
// record has changed since it was read.
func expectUnchanged(e *Edit) storage.Op { return storage.Expect(e.kind.Records+e.Rec.Name, e.version) }

// expectUnchangedAbs is expectUnchanged as an operation on absolute keys, for a commit to the
// store of another mount.
func expectUnchangedAbs(e *Edit) storage.Op {
	return e.m.cfg.Store.Abs(expectUnchanged(e))
}

// trim makes the next commit remove the oldest rows of a journal that has become too long.
//
// The record counts the rows, so that trim seldom reads them. A row that was written without the
// record (see Manager.storeUnchecked) is not counted until trim has read the journal.
func trim(ctx context.Context, e *Edit) error {
	if e.Rec.Journaled < maxJournal+trimmed || len(e.Ops)+len(e.Abs) > storage.MaxOps/2 {
		return nil
	}
	prefix := e.kind.Journal + e.Rec.Name + "/"
	var keys []string
	for row, err := range e.m.cfg.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if row.Key == "" && err != nil {
			return err
		}
		keys = append(keys, row.Key)
	}
	e.Rec.Journaled = min(len(keys), maxJournal)
	keys = keys[:len(keys)-e.Rec.Journaled]
	for len(keys) > trimmed {
		n := min(len(keys)-trimmed, storage.MaxOps)
		if _, err := e.m.cfg.Store.Commit(ctx, removals(keys[:n])...); err != nil {
			return err
		}
		keys = keys[n:]
	}
	e.Ops = append(e.Ops, removals(keys)...)
	return nil
}

func removals(keys []string) (ops []storage.Op) {
	for _, key := range keys {
		ops = append(ops, storage.Remove(key))
	}
	return ops
}

// trimmed is by how many rows a journal exceeds its limit when it is trimmed, and how many rows
// the trimming commit itself removes. Commits of their own remove any rows above that.
const trimmed = 20

// These commits have no journal row and no event. braked happens to each record every other minute
// while the brake is on, perhaps for weeks. callCounted counts a call before it is made.
// refusalCounted counts a refused write.
const (
	braked         = "braked"
	callCounted    = "call-counted"
	refusalCounted = "refusal-counted"
)

func (e *Edit) committed(v storage.Version) {
	e.version, e.Ops, e.Abs, e.details = v, nil, nil, nil
	if !e.quiet {
		e.exchanges, e.counted = nil, 0
	}
	e.due, e.current = e.Rec.Due, e.Rec.Current.Key()
	if e.Rec.CallUntil.IsZero() {
		e.m.returnedCalls.Delete(e.kind.Records + e.Rec.Name)
	}
	e.m.census.set(e.kind, e.Rec.Name, v, standingOf(e.kind, e.Rec))
	logFailure(e)
}

// logFailure logs and counts a failed call and a missed window.
func logFailure(e *Edit) {
	if t := e.logErr; t != nil {
		e.m.cfg.Log.Warn("a step of a rotation failed", "path",
			e.m.cfg.Mount()+e.kind.Path(requestName(e.kind, e.Rec)), "rotation", e.Rec.Number(), "step", t.State,
			"class", t.Outcome, "next_try", e.Rec.Due, "error", t.Text)
		e.m.census.countFailed(t.State, t.Outcome)
	}
	e.logErr = nil
	if !e.missed.IsZero() {
		e.m.cfg.Log.Warn("a rotation missed its window", "path",
			e.m.cfg.Mount()+e.kind.Path(requestName(e.kind, e.Rec)), "due", e.missed, "next_rotation", e.Rec.Next,
			"error", e.Rec.LastError)
		e.m.census.countMissed()
	}
	e.missed = time.Time{}
}

func (e *Edit) batch(what string, due time.Time) (ops, abs []storage.Op, err error) {
	rec, from := e.Rec, e.due // a commit that failed has moved none
	if !due.IsZero() {
		due = later(due, rec.CallUntil)
	}
	rec.Due = roundDue(due, from, e.working)
	e.quiet = what == braked || what == nothingWrong || what == callCounted || what == refusalCounted
	var made []Exchange
	if !e.quiet {
		made = newExchanges(e)
		rec.Journaled++
	}
	b, err := encode(rec)
	if err != nil {
		return nil, nil, err
	}
	ops = append(ops, storage.Set(e.kind.Records+rec.Name, b).If(e.version))
	if e.Sec != nil {
		s, err := e.Sec.encode()
		if err != nil {
			return nil, nil, err
		}
		ops = append(ops, storage.Set(e.kind.Secrets+rec.Name, s))
	}
	ops = append(ops, e.Ops...)
	abs = append(e.m.cfg.Schedule(e.kind.Name, rec.Name, from, rec.Due), e.Abs...)
	if e.quiet {
		return ops, abs, nil
	}
	row, err := encode(journalRow(e, what, made))
	if err != nil {
		return nil, nil, err
	}
	return append(ops, storage.Append(e.kind.Journal+rec.Name+"/", row)), append(abs, event(e, what)), nil
}

// roundDue rounds a time up to whole milliseconds, which the due index can hold. While the record
// works on the item at from, roundDue returns a time other than from, because the due loop takes
// an unchanged row for the one that it has just done.
func roundDue(due, from time.Time, working bool) time.Time {
	due = due.UTC().Add(time.Millisecond - 1).Truncate(time.Millisecond)
	if due.Unix() <= 0 {
		return time.Time{}
	}
	if working && due.Sub(from).Abs() < time.Millisecond {
		return from.Add(time.Millisecond)
	}
	return due
}

// A JournalRow is one commit of a record, as its history shows it.
type JournalRow struct {
	At    time.Time         `json:"time"`
	What  string            `json:"what"`
	Turn  uint32            `json:"rotation"`
	State State             `json:"state"`
	Due   time.Time         `json:"due"`
	More  map[string]string `json:"more,omitempty"`
	// Requests are the requests to the provider since the previous commit.
	Requests []Exchange `json:"requests,omitempty"`
}

func journalRow(e *Edit, what string, made []Exchange) JournalRow {
	return JournalRow{At: e.Now, What: what, Turn: e.Rec.Number(), State: e.Rec.State(), Due: e.Rec.Due,
		More: e.details, Requests: made}
}

// event returns the operation that records an event.
func event(e *Edit, what string) storage.Op {
	data := e.kind.Details(e.Rec)
	data["rotation"], data["state"] = fmt.Sprint(e.Rec.Number()), string(e.Rec.State())
	for k, v := range e.details {
		data[k] = v
	}
	return e.m.cfg.Event("rotation/"+what, data)
}

// maxText bounds the stored text of a third party's error.
const maxText = 500

// errorText returns the text of an error that may be stored and shown. The text is our own
// message, or a third party's text, redacted and cut.
func (e *Edit) errorText(err error) string {
	text := fault.Message(err)
	if text == "" {
		text = e.Redactor.Scrub(err.Error())
	}
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}

func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return b, fault.Wrap("rotate.encode", fault.Internal, err)
}

func decode(e storage.Entry, into any) error {
	return fault.Wrap("rotate.decode", fault.Internal, json.Unmarshal(e.Value, into))
}

// An exchanger is a target that returns the requests it has made since the last time it was
// asked.
type exchanger interface {
	Exchanges() []Exchange
}

// newExchanges returns the last exchanges with the provider since the previous commit, up to the
// limit of the rotation.
func newExchanges(e *Edit) []Exchange {
	if target, ok := e.target.(exchanger); ok {
		e.exchanges = append(e.exchanges, target.Exchanges()...)
	}
	made := e.exchanges[max(len(e.exchanges)-maxExchanges, 0):]
	if t := e.Rec.Turn; t != nil {
		t.Kept -= e.counted // a commit that failed holds none
		made = made[:min(len(made), max(maxKept-t.Kept, 0))]
		t.Kept += len(made)
		e.counted = len(made)
	}
	return made
}

// recoverExchanges takes over the exchanges that a failed commit of this process should have
// stored. recoverExchanges returns a function that saves them for the next commit, if no commit of
// this Edit stores them.
func recoverExchanges(e *Edit) (leave func()) {
	m, key := e.m, e.kind.Records+e.Rec.Name
	if lost, known := m.unsaved.LoadAndDelete(key); known {
		e.exchanges = lost.([]Exchange)
	}
	return func() {
		if target, ok := e.target.(exchanger); ok {
			e.exchanges = append(e.exchanges, target.Exchanges()...)
		}
		if n := len(e.exchanges); n > 0 {
			m.unsaved.Store(key, e.exchanges[max(n-maxExchanges, 0):])
		}
	}
}
