package rotation

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

type nameIn struct {
	Name string `path:"name" doc:"The key's name."`
}

func (b *backend) keyExists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := b.m.Store.Get(ctx, recordPrefix+r.Param("name"))
	return e.Version != 0, err
}

// edit runs f on a key, with its lock held.
func (b *backend) edit(ctx context.Context, name string, f func(r *run) error) error {
	release, err := b.locks.take(ctx, name)
	if err != nil {
		return err
	}
	defer release()
	r, err := b.have(ctx, name)
	if err != nil {
		return err
	}
	return f(r)
}

func (b *backend) writeKey(ctx context.Context, req *route.Request, in keyIn) (route.None, error) {
	if err := checkName(in.Name); err != nil {
		return route.None{}, err
	}
	release, err := b.locks.take(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	r, err := b.load(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	fresh := r == nil
	if fresh {
		r = &run{backend: b, rec: &record{Name: in.Name}, now: time.Now().UTC(), redactor: new(secret.Redactor)}
		r.rec.Tag, r.rec.Created = newTag(in.Name), r.now
	}
	return route.None{}, b.change(ctx, &change{in: &in, r: r, req: req, replace: true, fresh: fresh})
}

func (b *backend) patchKey(ctx context.Context, req *route.Request, in keyIn) (route.None, error) {
	return route.None{}, b.edit(ctx, in.Name, func(r *run) error {
		return b.change(ctx, &change{in: &in, r: r, req: req})
	})
}

func (b *backend) change(ctx context.Context, c *change) error {
	r := c.r
	if err := r.unlock(ctx); err != nil {
		return err
	}
	if err := c.apply(ctx); err != nil {
		return err
	}
	what := "configured"
	if c.fresh {
		what = "created-key"
	}
	return r.commit(ctx, what, request{r}.planned())
}

// planned is when the key is next due, by what is stored alone: never by a time that is zero.
func (r request) planned() time.Time {
	rec := r.rec
	switch {
	case rec.Paused != nil:
		return time.Time{}
	case rec.Turn != nil && !rec.Due.IsZero():
		return rec.Due
	case rec.Turn != nil || rec.Queued != nil:
		return r.now
	}
	return schedule.Later(schedule.Later(rec.Next, rec.Retry), r.now)
}

// keyOut is what a read of a key shows.
type keyOut struct {
	keyConfig
	keyStatus
}

type keyConfig struct {
	Provider  string                   `json:"provider"`
	Recipe    string                   `json:"recipe"`
	Hash      string                   `json:"recipe_hash"`
	Params    map[string]wire.Raw      `json:"params"`
	Admin     []string                 `json:"admin_fields"`
	Path      string                   `json:"path"`
	Fields    map[string]string        `json:"fields"`
	Class     schedule.Class           `json:"class"`
	Period    time.Duration            `json:"rotation_period"`
	Grace     time.Duration            `json:"grace_period"`
	ReadTTL   time.Duration            `json:"read_ttl"`
	Idle      time.Duration            `json:"idle_period"`
	MaxHold   time.Duration            `json:"max_hold"`
	Settle    map[string]time.Duration `json:"settle"`
	Successes int                      `json:"settle_successes"`
	Principal []string                 `json:"policies"`
	Owner     string                   `json:"configured_by"`
}

type keyStatus struct {
	State       State     `json:"state"`
	Turn        int       `json:"turn"`
	CurrentID   string    `json:"current_key_id"`
	PreviousID  string    `json:"previous_key_id"`
	PendingID   string    `json:"pending_key_id"`
	LastRotated time.Time `json:"last_rotated"`
	Next        time.Time `json:"next_rotation"`
	NextStep    time.Time `json:"next_step"`
	RetireAfter time.Time `json:"retire_after"`
	Overdue     bool      `json:"overdue"`
	OverdueBy   int64     `json:"overdue_seconds"`
	Paused      bool      `json:"paused"`
	PauseReason string    `json:"pause_reason"`
	Alert       string    `json:"alert"`
	AlertSince  time.Time `json:"alert_since"`
	LastError   string    `json:"last_error"`
	Failures    int       `json:"failures"`
	Unproven    []string  `json:"unproven"`
	Leaked      bool      `json:"leaked"`
}

func (b *backend) readKey(ctx context.Context, _ *route.Request, in nameIn) (*keyOut, error) {
	r, err := b.load(ctx, in.Name)
	if err != nil || r == nil {
		return nil, err
	}
	if err := r.unlock(ctx); err != nil {
		return nil, err
	}
	return &keyOut{request{r}.showConfig(ctx), request{r}.showStatus()}, nil
}

func (r request) showConfig(ctx context.Context) keyConfig {
	rec := r.rec
	d, err := r.definition(ctx, rec)
	known := err == nil
	p := rec.Config.Policy
	out := keyConfig{
		Provider: rec.Bind.Provider, Recipe: rec.Bind.Name, Hash: rec.Bind.Hash, Params: map[string]wire.Raw{}, Admin: []string{},
		Path: rec.Config.Path, Fields: rec.Config.Fields, Class: p.Class, Period: p.Period, Grace: p.Grace, ReadTTL: p.ReadTTL, Idle: p.Idle,
		MaxHold: p.MaxHold, Principal: rec.Principal, Owner: rec.Owner,
	}
	for name, v := range rec.Config.Params {
		i := slices.IndexFunc(d.Params, func(f Field) bool { return f.Name == name })
		if known && i >= 0 && !d.Params[i].Secret {
			out.Params[name] = wire.RawOf(v)
		}
	}
	for name := range r.sec.Admin {
		out.Admin = append(out.Admin, name)
	}
	slices.Sort(out.Admin)
	r.def = d
	s := r.settle()
	out.Successes, out.Settle = s.Successes, map[string]time.Duration{"interval": s.Interval, "timeout": s.Timeout}
	return out
}

// overdueAfter is how late a turn may publish before it counts as overdue: a
// turn takes its time to settle.
const overdueAfter = 10 * time.Minute

func (r request) showStatus() keyStatus {
	rec := r.rec
	out := keyStatus{
		State: r.state(), Turn: int(r.number()), CurrentID: rec.Current.id(), LastRotated: rec.LastRotated, Next: rec.Next, NextStep: rec.Due,
		LastError: rec.LastError, Failures: rec.Failures, Unproven: rec.Unproven,
	}
	if late := r.now.Sub(rec.Next); !rec.Next.IsZero() && late > overdueAfter {
		out.Overdue, out.OverdueBy = true, int64(late/time.Second)
	}
	if rec.Paused != nil {
		out.Paused, out.PauseReason = true, rec.Paused.Reason
	}
	if rec.Alert != nil {
		out.Alert, out.AlertSince = rec.Alert.Text, rec.Alert.At
	}
	if t := rec.Turn; t != nil {
		out.Leaked = t.Start.Leaked
		if t.published().IsZero() {
			out.PendingID = t.New.id()
		} else {
			out.PreviousID, out.RetireAfter = t.victim().id(), t.End.After
			out.Unproven = t.Unproven
		}
	}
	if out.Unproven == nil {
		out.Unproven = []string{}
	}
	return out
}

type deleteIn struct {
	Name  string `path:"name" doc:"The key's name."`
	Force bool   `json:"force" default:"false" doc:"Whether to forget a key whose turn is in flight."`
}

func (b *backend) deleteKey(ctx context.Context, req *route.Request, in deleteIn) (route.None, error) {
	release, err := b.locks.take(ctx, in.Name)
	if err != nil {
		return route.None{}, err
	}
	defer release()
	r, err := b.load(ctx, in.Name)
	if err != nil || r == nil {
		return route.None{}, err
	}
	if t := r.rec.Turn; t != nil && !in.Force {
		return route.None{}, fault.New("rotation.delete", fault.Conflict, "turn %d of key %q is in flight (%s); wait for its end, or give force=true and clear away %q at the provider yourself", t.N, in.Name, t.State, t.ids())
	}
	for _, prefix := range []string{journalPrefix, historyPrefix} {
		if err := b.clear(ctx, prefix+in.Name+"/"); err != nil {
			return route.None{}, err
		}
	}
	ops := []storage.Op{storage.Remove(recordPrefix + in.Name).If(r.version), storage.Remove(secretPrefix + in.Name), storage.Remove(boundPrefix + in.Name)}
	abs, err := b.m.Host.Reserve(ctx, engine.Reservation{Record: recordPrefix + in.Name, Had: r.rec.places()})
	if err != nil {
		return route.None{}, err
	}
	abs = append(abs, b.m.Host.Schedule(workKind, in.Name, r.rec.Due, time.Time{})...)
	abs = append(abs, b.m.Host.Event("rotation/deleted-key", engine.Details(r.event())...))
	if _, err = b.m.Store.CommitWith(ctx, ops, abs); err == nil {
		b.census.set(in.Name, "")
	}
	return route.None{}, err
}

// Unfinished implements [engine.Keeper]: a turn has keys in hand that nobody else knows.
func (b *backend) Unfinished(ctx context.Context) error {
	for e, err := range b.m.Store.Scan(ctx, recordPrefix, storage.PrefixEnd(recordPrefix)) {
		if e.Key == "" && err != nil {
			return err
		}
		name := strings.TrimPrefix(e.Key, recordPrefix)
		r, err := b.load(ctx, name)
		if err != nil {
			return err
		}
		if r == nil || r.rec.Turn == nil {
			continue
		}
		t := r.rec.Turn
		return fault.New("rotation.disable", fault.Conflict, "turn %d of key %q is in flight (%s), and nobody would end it once the mount is gone; wait for its end, or disable it with force=true and clear away %q at the provider yourself", t.N, name, t.State, t.ids())
	}
	return nil
}

// ids are the keys that a turn has in hand.
func (t *turn) ids() (out []string) {
	for _, h := range []*held{t.New, t.victim()} {
		if h != nil && !slices.Contains(out, h.ID) {
			out = append(out, h.ID)
		}
	}
	for _, a := range t.Attempts {
		if a.open() {
			out = append(out, a.Marker)
		}
	}
	return out
}

// clear removes all below a prefix, in as many commits as it takes.
func (b *backend) clear(ctx context.Context, prefix string) error {
	for {
		var ops []storage.Op
		for e, err := range b.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if e.Key == "" && err != nil {
				return err
			}
			if ops = append(ops, storage.Remove(e.Key)); len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			return nil
		}
		if _, err := b.m.Store.Commit(ctx, ops...); err != nil {
			return err
		}
	}
}

type listIn struct {
	After string `json:"after" doc:"Begin behind this name."`
	Limit int    `json:"limit" default:"all" doc:"How many names at most."`
}

func (b *backend) listKeys(ctx context.Context, _ *route.Request, in listIn) (route.Keys, error) {
	var out route.Keys
	for e, err := range b.m.Store.Scan(ctx, recordPrefix+in.After, storage.PrefixEnd(recordPrefix)) {
		if e.Key == "" && err != nil {
			return out, err
		}
		name := strings.TrimPrefix(e.Key, recordPrefix)
		if name == in.After {
			continue
		}
		if out.Keys = append(out.Keys, name); len(out.Keys) == in.Limit {
			break
		}
	}
	return out, nil
}

type historyIn struct {
	Name  string `path:"name" doc:"The key's name."`
	Limit int    `json:"limit" default:"all that are kept" doc:"How many turns at most."`
	Steps bool   `json:"steps" default:"false" doc:"Whether each turn comes with its steps."`
}

type historyOut struct {
	Turns []turnOut    `json:"turns"`
	Steps []journalRow `json:"steps,omitempty"`
}

// turnOut is a turn as history shows it.
type turnOut struct {
	N           int       `json:"turn"`
	Result      State     `json:"result"` // where it stands, or how it ended
	Reason      string    `json:"reason"`
	By          string    `json:"by"`
	Leaked      bool      `json:"leaked"`
	Started     time.Time `json:"started"`
	Published   time.Time `json:"published"`
	Ended       time.Time `json:"ended"`
	KeyID       string    `json:"key_id"`
	PreviousID  string    `json:"previous_key_id"`
	Version     int       `json:"version"`
	Proof       Proof     `json:"proof"`
	DeadProof   string    `json:"dead_proof"`
	RetireAfter time.Time `json:"retire_after"`
	Retired     time.Time `json:"retired"`
	Proven      bool      `json:"proven"`
	Unproven    []string  `json:"unproven"`
	BackReason  string    `json:"rolled_back_because"`
	Stages      []stage   `json:"states"`
	Attempts    []string  `json:"attempts"`
	Errors      []stumble `json:"errors"`
}

func (t *turn) show() turnOut {
	out := turnOut{
		N: int(t.N), Result: t.State, Reason: t.Start.Reason, By: t.Start.By, Leaked: t.Start.Leaked, Started: t.Started, Published: t.Put.At, Ended: t.Ended,
		KeyID: t.New.id(), PreviousID: t.Old.id(), Version: t.Put.Version, Proof: t.Proof, DeadProof: t.End.Proof, RetireAfter: t.End.After, Retired: t.End.Retired,
		Proven: t.State == Done && len(t.Unproven) == 0, Unproven: t.Unproven, Stages: t.Stages, Errors: t.Errors,
	}
	if t.Back != nil {
		out.BackReason = t.Back.Reason
	}
	for _, a := range t.Attempts {
		outcome := a.Outcome
		if outcome == "" {
			outcome = "under way"
		}
		out.Attempts = append(out.Attempts, a.Marker+" "+outcome)
	}
	return out
}

func (b *backend) history(ctx context.Context, _ *route.Request, in historyIn) (*historyOut, error) {
	r, err := b.have(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	if in.Limit <= 0 {
		in.Limit = maxTurns
	}
	out := &historyOut{Turns: []turnOut{}}
	prefix := historyPrefix + in.Name + "/"
	for e, err := range b.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		t := new(turn)
		if err := decode(e, t); err != nil {
			return nil, err
		}
		out.Turns = append(out.Turns, t.show())
	}
	if r.rec.Turn != nil {
		out.Turns = append(out.Turns, r.rec.Turn.show())
	}
	slices.Reverse(out.Turns)
	out.Turns = out.Turns[:min(in.Limit, len(out.Turns))]
	if in.Steps {
		out.Steps, err = b.journal(ctx, in.Name)
	}
	return out, err
}

// journal reads the rows of a key's commits, the oldest first.
func (b *backend) journal(ctx context.Context, name string) (rows []journalRow, err error) {
	prefix := journalPrefix + name + "/"
	for e, err := range b.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		var row journalRow
		if err := json.Unmarshal(e.Value, &row); err != nil {
			return nil, fault.Wrap("rotation.journal", fault.Internal, err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}
