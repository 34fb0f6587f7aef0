package rotation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// workKind is the kind of the due item of a key.
const workKind = "key"

// A run is one key in hand, with its lock held: what was read, what was changed,
// and the way to commit it.
type run struct {
	*backend
	rec     *record
	sec     *vault
	version storage.Version // of the record; 0: it is new
	now     time.Time

	redactor *secret.Redactor
	def      Definition // once opened
	src      Source     // once opened

	working bool         // on a due item, which must move
	opened  bool         // the secrets were read, and are written with the record
	more    []storage.Op // for the next commit, relative
	abs     []storage.Op // and absolute
	said    map[string]string
	failed  error // of the call outside, for the audit log
}

// load reads a key; nil if there is none.
func (b *backend) load(ctx context.Context, name string) (*run, error) {
	e, err := b.m.Store.Get(ctx, recordPrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	r := &run{backend: b, rec: new(record), version: e.Version, now: time.Now().UTC(), redactor: new(secret.Redactor)}
	return r, decode(e, r.rec)
}

// have is load for a request, which wants the key to be there.
func (b *backend) have(ctx context.Context, name string) (*run, error) {
	r, err := b.load(ctx, name)
	if err == nil && r == nil {
		err = fault.New("rotation.load", fault.NotFound, "there is no rotation key %q; list keys/", name)
	}
	return r, err
}

// unlock reads the key's secrets.
func (r *run) unlock(ctx context.Context) error {
	if r.opened {
		return nil
	}
	e, err := r.m.Store.Get(ctx, secretPrefix+r.rec.Name)
	if err != nil {
		return err
	}
	if r.sec, err = decodeVault(e.Value); err != nil {
		return err
	}
	r.sec.know(r.redactor)
	r.opened = true
	return nil
}

// open readies the provider.
func (r *run) open(ctx context.Context) error {
	if err := r.unlock(ctx); err != nil {
		return err
	}
	var err error
	if r.def, err = r.definition(ctx, r.rec); err != nil {
		return err
	}
	r.src, err = r.source(r.def, r.rec.Config.Params, r.sec.Admin, r.redactor)
	return err
}

// settle is the definition's settling with the key's own words over it.
func (r *run) settle() Settle {
	s, own := r.def.Settle, r.rec.Config.Settle
	if own.Successes > 0 {
		s.Successes = own.Successes
	}
	if own.Interval > 0 {
		s.Interval = own.Interval
	}
	if own.Timeout > 0 {
		s.Timeout = own.Timeout
	}
	return Settle{max(s.Successes, 1), max(s.Interval, time.Second), max(s.Timeout, time.Minute)}
}

func (r *run) turn() *turn { return r.rec.Turn }

func (r *run) state() State {
	if r.rec.Turn == nil {
		return Scheduled
	}
	return r.rec.Turn.State
}

// say adds to the event and the journal row of the next commit. Values are no secrets.
func (r *run) say(name, value string) {
	if r.said == nil {
		r.said = map[string]string{}
	}
	r.said[name] = value
}

// to moves the turn to another state, as [ways] allows.
func (r *run) to(s State) {
	t := r.turn()
	if !slices.Contains(ways[t.State].next, s) {
		panic(fmt.Sprintf("rotation: no way from %s to %s", t.State, s)) // a programming error, found by the first test that walks it
	}
	t.enter(s, r.now)
}

func (t *turn) enter(s State, now time.Time) {
	t.State, t.Tries, t.Streak = s, 0, 0
	if len(t.Stages) < maxStages {
		t.Stages = append(t.Stages, stage{s, now})
	}
}

// alarm raises an alert, which stays until a turn ends well.
func (r *run) alarm(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if r.rec.Alert == nil || r.rec.Alert.Text != text {
		r.rec.Alert = &alert{r.now, text}
		r.say("alert", text)
	}
}

// halt pauses the key: it needs a person.
func (r *run) halt(format string, args ...any) {
	r.alarm(format, args...)
	r.rec.Paused = &pause{At: r.now, Reason: r.rec.Alert.Text, Auto: true}
}

// unproven notes why the turn does not count as proven.
func (t *turn) unproven(why string) {
	if !slices.Contains(t.Unproven, why) {
		t.Unproven = append(t.Unproven, why)
	}
}

// commit stores the record, its secrets if they were read, a row of the journal
// and an event, and moves the due item to due; a zero due drops it. what is a
// slug of what has happened.
func (r *run) commit(ctx context.Context, what string, due time.Time) error {
	ops, abs, err := r.batch(what, due)
	if err != nil {
		return err
	}
	v, err := r.m.Store.CommitWith(ctx, ops, abs)
	if err != nil {
		return err
	}
	r.committed(v)
	return nil
}

// commitKept is commit for a result that exists nowhere else: it insists for a
// while, and recognises its own commit when a reply was lost.
func (r *run) commitKept(ctx context.Context, what string, due time.Time) error {
	ops, abs, err := r.batch(what, due)
	if err != nil {
		return err
	}
	for try := 1; ; try++ {
		v, err := r.m.Store.CommitWith(ctx, ops, abs)
		if err == nil {
			r.committed(v)
			return nil
		}
		if errors.Is(err, storage.ErrConflict) && try > 1 {
			e, rerr := r.m.Store.Get(ctx, recordPrefix+r.rec.Name)
			var there record
			if rerr == nil && decode(e, &there) == nil && there.Turn != nil && there.Turn.New.id() == r.turn().New.id() {
				r.committed(e.Version)
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

// braked is what happens to each key every other minute while the brake is on, for weeks perhaps: it
// is neither journaled nor told.
const braked = "braked"

func (r *run) committed(v storage.Version) {
	r.version, r.more, r.abs, r.said = v, nil, nil, nil
	r.census.set(r.rec.Name, r.state())
}

func (r *run) batch(what string, due time.Time) (ops, abs []storage.Op, err error) {
	rec := r.rec
	from := rec.Due
	// The index counts in milliseconds: never a part of one early.
	if due = due.UTC().Add(time.Millisecond - 1).Truncate(time.Millisecond); due.Unix() <= 0 {
		due = time.Time{}
	}
	if r.working && !due.IsZero() && due.Sub(from).Abs() < time.Millisecond {
		// The loop takes a row that did not change for the one that it has just done.
		due = from.Add(time.Millisecond)
	}
	rec.Due = due
	b, err := encode(rec)
	if err != nil {
		return nil, nil, err
	}
	ops = append(ops, storage.Set(recordPrefix+rec.Name, b).If(r.version))
	if r.opened {
		s, err := r.sec.encode()
		if err != nil {
			return nil, nil, err
		}
		ops = append(ops, storage.Set(secretPrefix+rec.Name, s))
	}
	ops = append(ops, r.more...)
	abs = append(r.m.Host.Schedule(workKind, rec.Name, from, due), r.abs...)
	if what == braked {
		return ops, abs, nil
	}
	row, err := encode(r.row(what))
	if err != nil {
		return nil, nil, err
	}
	return append(ops, storage.Append(journalPrefix+rec.Name+"/", row)), append(abs, r.m.Host.Event("rotation/"+what, engine.Details(r.event())...)), nil
}

// A journalRow is one commit of a key, as history shows it.
type journalRow struct {
	At    time.Time         `json:"time"`
	What  string            `json:"what"`
	Turn  uint32            `json:"turn"`
	State State             `json:"state"`
	Due   time.Time         `json:"due"`
	More  map[string]string `json:"more,omitempty"`
}

func (r *run) row(what string) journalRow {
	return journalRow{At: r.now, What: what, Turn: r.number(), State: r.state(), Due: r.rec.Due, More: r.said}
}

func (r *run) number() uint32 {
	if r.rec.Turn != nil {
		return r.rec.Turn.N
	}
	return r.rec.Turns
}

func (r *run) event() map[string]string {
	data := map[string]string{"key": r.rec.Name, "turn": fmt.Sprint(r.number()), "state": string(r.state()), "path": r.rec.Config.Path}
	for k, v := range r.said {
		data[k] = v
	}
	return data
}

// policy is the key's timing.
func (r *run) policy() schedule.Policy { return r.rec.Config.Policy }

// maxText bounds what is kept of a third party's words.
const maxText = 500

// words is what may be kept and shown of an error: its message, which is our own, or what others wrote, redacted; and short.
func (r *run) words(err error) string {
	text := fault.Message(err)
	if text == "" {
		text = r.redactor.Scrub(err.Error())
	}
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
