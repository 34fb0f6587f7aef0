package rotation

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

type nameIn struct {
	Name string `path:"name" doc:"The key's name."`
}

func (ks *keys) exists(ctx context.Context, r *route.Request) (bool, error) {
	e, err := ks.m.Store.Get(ctx, recordPrefix+r.Param("name"))
	return e.Version != 0, err
}

func (ks *keys) write(ctx context.Context, req *route.Request, in keyIn) (route.None, error) {
	if err := checkName(in.Name); err != nil {
		return route.None{}, err
	}
	return route.None{}, ks.changeOr(ctx, in.Name, nil, func(k *key) error {
		return (&change{keys: ks, k: k, in: &in, req: req, replace: true, isNew: k.New()}).run(ctx)
	})
}

func (ks *keys) patch(ctx context.Context, req *route.Request, in keyIn) (route.None, error) {
	return route.None{}, ks.change(ctx, in.Name, func(k *key) error {
		return (&change{keys: ks, k: k, in: &in, req: req}).run(ctx)
	})
}

// run validates the write and commits it.
func (c *change) run(ctx context.Context) error {
	if err := c.k.Unlock(ctx); err != nil {
		return err
	}
	if err := c.apply(ctx); err != nil {
		return err
	}
	what := "configured"
	if c.isNew {
		what = "created-key"
	}
	return c.k.save(ctx, what, c.k.Planned())
}

// keyOut is the response to a read of a key.
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
	CA        string                   `json:"ca"`
	Path      string                   `json:"path"`
	Fields    map[string]string        `json:"fields"`
	Class     schedule.Class           `json:"class"`
	Period    time.Duration            `json:"rotation_period"`
	Schedule  string                   `json:"rotation_schedule"`
	Window    time.Duration            `json:"rotation_window"`
	Jitter    time.Duration            `json:"jitter"`
	Manual    bool                     `json:"manual"`
	Blackout  []string                 `json:"blackout"`
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
	Summary        string       `json:"summary"`
	State          rotate.State `json:"state"`
	Rotation       int          `json:"rotation"`
	CurrentID      string       `json:"current_key_id"`
	PreviousID     string       `json:"previous_key_id"`
	PendingID      string       `json:"pending_key_id"`
	LastRotated    time.Time    `json:"last_rotated"`
	Next           time.Time    `json:"next_rotation"`
	NextStep       time.Time    `json:"next_step"`
	RetireAfter    time.Time    `json:"retire_after"`
	Overdue        bool         `json:"overdue"`
	OverdueBy      int64        `json:"overdue_seconds"`
	Paused         bool         `json:"paused"`
	PauseReason    string       `json:"pause_reason"`
	Alert          string       `json:"alert"`
	AlertSince     time.Time    `json:"alert_since"`
	LastError      string       `json:"last_error"`
	Failures       int          `json:"failures"` // rotations in a row
	Attempts       int          `json:"attempts"` // of the present step that failed
	Unproven       []string     `json:"unproven"`
	RollbackReason string       `json:"rolled_back_because"` // of the rotation in flight; "": it is not rolled back
	Leaked         bool         `json:"leaked"`
	// RefusedWrites is the number of refused writes to the path by hand. The number is a lower
	// bound, because refusals in quick succession are not all counted.
	RefusedWrites  int       `json:"refused_writes"`
	RefusedWriteBy string    `json:"refused_write_by,omitempty"`
	RefusedWriteAt time.Time `json:"refused_write_at,omitzero"`
}

func (ks *keys) read(ctx context.Context, _ *route.Request, in nameIn) (*keyOut, error) {
	k, err := ks.view(ctx, in.Name)
	if err != nil || k == nil {
		return nil, err
	}
	if err := k.Unlock(ctx); err != nil {
		return nil, err
	}
	d, _ := ks.catalog.definition(ctx, in.Name, k.data.Bind) // of a damaged one, no param is shown
	return &keyOut{k.showConfig(d), k.showStatus()}, nil
}

func (k *key) showConfig(d Definition) keyConfig {
	data := &k.data
	p := data.Config.Policy
	out := keyConfig{
		Provider: data.Bind.Provider, Recipe: data.Bind.Name, Hash: data.Bind.Hash, Params: map[string]wire.Raw{},
		Admin: []string{}, CA: data.Config.CA,
		Path: data.Config.Path, Fields: data.Config.Fields, Class: p.Class, Period: p.Period,
		Schedule: p.Schedule, Window: p.Window, Jitter: p.Jitter, Manual: p.Off,
		Blackout: p.Blackout.Dates(), Grace: p.Grace, ReadTTL: p.ReadTTL,
		Idle: p.Idle, MaxHold: p.MaxHold, Principal: data.Principal, Owner: data.Owner,
	}
	for name, v := range data.Config.Params {
		i := slices.IndexFunc(d.Params, func(f Field) bool { return f.Name == name })
		if i >= 0 && !d.Params[i].Secret {
			out.Params[name] = wire.RawOf(v)
		}
	}
	for name := range k.Sec.Admin {
		out.Admin = append(out.Admin, name)
	}
	slices.Sort(out.Admin)
	s := data.Config.settle(d)
	out.Successes, out.Settle = s.Successes, map[string]time.Duration{"interval": s.Interval, "timeout": s.Timeout}
	return out
}

func (k *key) showStatus() keyStatus {
	rec := k.Rec
	out := keyStatus{
		State: rec.State(), Rotation: int(rec.Number()), CurrentID: rec.Current.Key(), LastRotated: rec.LastRotated,
		Next: rec.Next, NextStep: rec.NextStep(),
		LastError: rec.LastError, Failures: rec.Failures, Unproven: rec.Unproven,
	}
	if late := rec.Overdue(k.Now); late > 0 {
		out.Overdue, out.OverdueBy = true, int64(late/time.Second)
	}
	out.Summary = rec.Summary(k.Now)
	if rec.Paused != nil {
		out.Paused, out.PauseReason = true, rec.Paused.Reason
	}
	out.Alert, out.AlertSince = rec.AlertText()
	if h := rec.HandWrites; h != nil {
		out.RefusedWrites, out.RefusedWriteBy, out.RefusedWriteAt = h.Refused, h.By, h.Last
	}
	if t := rec.Turn; t != nil {
		out.Leaked, out.Attempts = t.Start.Leaked, t.Tries
		if t.Back != nil {
			out.RollbackReason = t.Back.Reason
		}
		if t.Published().IsZero() {
			out.PendingID = t.New.Key()
		} else {
			out.PreviousID, out.RetireAfter = t.Victim().Key(), t.End.After
			out.Unproven = t.Unproven
		}
	}
	if out.Unproven == nil {
		out.Unproven = []string{}
	}
	return out
}

type statusIn struct {
	Failing bool `json:"failing" default:"false" doc:"Shows only credentials that have an alert or whose rotation has failed."`
	Overdue bool `json:"overdue" default:"false" doc:"Shows only credentials whose rotation is overdue."`
	Limit   int  `json:"limit" default:"1000" doc:"How many to return at most."`
}

type statusOut struct {
	Records []rotate.Status `json:"records"`
	Total   int             `json:"total"` // including those beyond the limit
}

// defaultStatusLimit is the default limit of a status request.
const defaultStatusLimit = 1000

// overview serves the status of everything that rotates on the server, not only on this mount.
type overview struct{ m *engine.Mount }

// status lists everything that rotates and that the caller may read. Credentials that need
// attention come first.
func (o overview) status(ctx context.Context, req *route.Request, in statusIn) (*statusOut, error) {
	out := &statusOut{Records: []rotate.Status{}}
	for s, err := range o.m.Host.Rotating(ctx, req.Caller.Policies) {
		switch {
		case err != nil && s.Path == "":
			return nil, err
		case err != nil:
			req.Warn("%s cannot be read: %s", s.Path, fault.Message(err))
			continue
		case in.Failing && s.Alert == "" && s.Failures == 0 && s.Attempts == 0, in.Overdue && s.Overdue == 0:
			continue
		}
		out.Records = append(out.Records, s)
	}
	slices.SortStableFunc(out.Records, func(a, b rotate.Status) int {
		return cmp.Or(cmp.Compare(a.Trouble(), b.Trouble()), -cmp.Compare(a.Overdue, b.Overdue),
			cmp.Compare(a.Path, b.Path))
	})
	out.Total = len(out.Records)
	if in.Limit <= 0 {
		in.Limit = defaultStatusLimit
	}
	out.Records = out.Records[:min(in.Limit, len(out.Records))]
	return out, nil
}

type deleteIn struct {
	Name  string `path:"name" doc:"The key's name."`
	Force bool   `json:"force" default:"false" doc:"Deletes the key even if a rotation is in flight."`
}

func (ks *keys) delete(ctx context.Context, req *route.Request, in deleteIn) (route.None, error) {
	err := ks.changeOr(ctx, in.Name, errNoKey, func(k *key) error {
		if t := k.Rec.Turn; t != nil && !in.Force {
			return fault.New("rotation.delete", fault.Conflict, "rotation %d of key %q is in flight (%s); wait for "+
				"its end, or give force=true and delete %q at the provider yourself", t.N, in.Name, t.State, t.IDs())
		}
		abs, err := ks.m.Host.Reserve(ctx, engine.Reservation{Record: recordPrefix + in.Name, Had: k.data.places()})
		if err != nil {
			return err
		}
		if ids := k.remainingIDs(); len(ids) > 0 {
			req.Warn("these keys stay valid at the provider, and nobody rotates or retires them any more: %q; "+
				"delete those that nobody uses there", ids)
		}
		k.Ops, k.Abs = append(k.Ops, storage.Remove(boundPrefix+in.Name)), append(k.Abs, abs...)
		return k.Delete(ctx)
	})
	if errors.Is(err, errNoKey) {
		err = nil
	}
	return route.None{}, err
}

// remainingIDs returns what the key may have left at its provider: the IDs of credentials, and the
// markers of calls whose effect is unknown.
func (k *key) remainingIDs() (ids []string) {
	if t := k.Rec.Turn; t != nil {
		ids = t.IDs()
	}
	if id := k.Rec.Current.Key(); id != "" && !slices.Contains(ids, id) {
		ids = append([]string{id}, ids...)
	}
	return ids
}

// errNoKey reports that the key to delete does not exist. delete treats it as success.
var errNoKey = errors.New("there is no such key")

type listIn struct {
	After string `json:"after" doc:"Begin after this name."`
	Limit int    `json:"limit" default:"all" doc:"How many names to return at most."`
}

func (ks *keys) list(ctx context.Context, _ *route.Request, in listIn) (out route.Keys, err error) {
	return ks.namesOf(ctx, keyKind, in)
}

// namesOf lists the names of the records of a kind.
func (ks *keys) namesOf(ctx context.Context, kind string, in listIn) (out route.Keys, err error) {
	for name, err := range ks.rotations.Names(ctx, kind, in.After) {
		if err != nil {
			return out, err
		}
		if out.Keys = append(out.Keys, name); len(out.Keys) == in.Limit {
			break
		}
	}
	return out, nil
}

type historyIn struct {
	Name string `path:"name" doc:"The key's name."`
	rotate.HistoryQuery
}

func (ks *keys) history(ctx context.Context, _ *route.Request, in historyIn) (*rotate.History, error) {
	return ks.rotations.History(ctx, keyKind, in.Name, noKey(in.Name), in.HistoryQuery)
}
