package core

import (
	"context"
	"iter"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/due"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/lease"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// workKind is the kind of the due items of engines' own work: the id is
// <kind>/<id>, the lane names the mount.
const workKind = "work"

const workLane = "work-"

// host is what an engine is lent.
func (h lending) host(uuid string) engine.Host {
	return engine.Host{
		Installation: h.barrier.Installation(),
		Schedule: func(kind, id string, from, to time.Time) []storage.Op {
			return due.Move(due.Item{Lane: workLane + uuid, Kind: workKind, ID: kind + "/" + id}, from, to)
		},
		Event: ledger(h).event,
		Guard: func(ctx context.Context, id string) ([]storage.Op, error) {
			return h.tokens.Guard(ctx, &token.Entry{ID: id})
		},
		Dial:      h.cfg.Dial,
		Files:     h.cfg.ConnectionFolders,
		ClockHeld: h.held,
		Password:  h.policies.Password,
		LeaseCount: func(ctx context.Context, target string, limit int) (int, error) {
			return h.leases.CountOf(ctx, due.Prefix+lease.Lane(uuid, target)+"/", limit)
		},
		Reserve: func(ctx context.Context, r engine.Reservation) ([]storage.Op, error) {
			return h.reserve(ctx, uuid, r)
		},
		MayPublish: h.mayPublish,
		Rotating:   h.rotating,
		Publish:    h.publish,
		Published:  h.published,
		Versions:   h.versions,
		Overwrite:  h.overwrite,
		Audited: func(ctx context.Context, a engine.Automatic, act func(ctx context.Context) error) error {
			m := audit.Mount{Class: mounts.ClassSecret}
			if o := h.mounts.Snapshot().ByUUID(uuid); o != nil {
				now := o.Entry()
				m = audit.Mount{Point: now.Path, Type: now.Type, Accessor: now.Accessor, Class: now.Class}
			}
			action := audit.Action{
				ID: newRequestID(), Actor: audit.ActorRotation, Operation: a.Operation, Path: a.Path, Mount: m, Detail: audit.Detail(a.Detail),
			}
			if a.Takes {
				return ledger(h).taking(ctx, action, act)
			}
			return ledger(h).automatic(ctx, action, act)
		},
	}
}

// work gives a due item of an engine's own to it.
func (h lending) work(ctx context.Context, it due.Item) error {
	o := h.mounts.Snapshot().ByUUID(strings.TrimPrefix(it.Lane, workLane))
	kind, id, _ := strings.Cut(it.ID, "/")
	if o == nil || o.Worker == nil || !o.Entry().Gone.IsZero() {
		_, err := h.view.Commit(ctx, storage.Remove(it.Key()))
		return err
	}
	return h.guarded("work", func() error { return o.Worker.Work(ctx, kind, id) })
}

// target finds the versioned mount of a publication, and the path below it.
func (h lending) target(path string) (*mounts.Open, string, error) {
	o := h.mounts.Snapshot().Route(path)
	if o == nil || o.Versioned == nil {
		return nil, "", fault.New("core.publish", fault.Invalid, "field \"path\": %q is not below a versioned kv mount; name one, such as \"secret/stripe\"", path)
	}
	rest, below := strings.CutPrefix(path, o.Entry().Path)
	if !below || rest == "" {
		return nil, "", fault.New("core.publish", fault.Invalid, "field \"path\": name a secret below %q", path)
	}
	return o, rest, nil
}

// rotating are where all records stand that a holder of the policies may read, whichever engine rotates them.
func (h lending) rotating(ctx context.Context, names []string) iter.Seq2[engine.Rotating, error] {
	return func(yield func(engine.Rotating, error) bool) {
		for _, o := range h.mounts.Snapshot().Rotators() {
			for s, err := range o.Rotator.Rotations().Statuses(ctx) {
				if s.Path != "" {
					d, derr := h.policies.Decide(ctx, names, policies.Query{Path: s.Path, Op: route.Read})
					if derr != nil {
						yield(s, derr)
						return
					}
					if !d.Allowed {
						continue
					}
				}
				if !yield(s, err) {
					return
				}
			}
		}
	}
}

// publish writes a rotated credential as the principal that configured its
// key: the policies are evaluated now, not as they were then.
func (h lending) publish(ctx context.Context, p engine.Publication) (int, error) {
	o, rest, err := h.target(p.Path)
	if err != nil {
		return 0, err
	}
	full := o.Entry().Path + "data/" + rest
	denied := fault.New("core.publish", fault.Denied, "the policies %s of who configured the key do not allow to write %q; grant create and update, or configure the key anew as somebody who may", strings.Join(p.Policies, ", "), full)
	if err := h.writable(ctx, p.Policies, full, denied); err != nil {
		return 0, err
	}
	e, version := o.Entry(), 0
	a := audit.Action{
		ID: newRequestID(), Actor: audit.ActorRotation, Operation: "update", Path: e.Path + "data/" + rest,
		Mount:  audit.Mount{Point: e.Path, Type: e.Type, Accessor: e.Accessor, Class: e.Class},
		Detail: audit.Detail{"turn": p.Turn, "key": p.Key, "step": "publish"},
	}
	err = ledger(h).automatic(ctx, a, func(ctx context.Context) error {
		version, err = o.Versioned.Publish(ctx, rest, p)
		return err
	})
	return version, err
}

// mayPublish refuses a caller who configures what will publish to a secret, and may not write it.
// The path names it without "data/".
func (h lending) mayPublish(ctx context.Context, names []string, path string) error {
	o, rest, err := h.target(path)
	if err != nil {
		return err
	}
	full := o.Entry().Path + "data/" + rest
	return h.writable(ctx, names, full, fault.New("core.mayPublish", fault.Denied, "field \"path\": your policies must allow to write %q, where the key is published; add a rule for %q with the capabilities create and update, or name another path", path, full))
}

// publishBody is what a publication writes, as far as rules of parameters can tell.
const publishBody = `{"data":{}}`

// writable returns denied unless policies allow to create and to update a path of a versioned kv mount.
func (h lending) writable(ctx context.Context, names []string, path string, denied error) error {
	for _, op := range []route.Op{route.Create, route.Write} {
		d, err := h.policies.Decide(ctx, names, policies.Query{Path: path, Op: op, Body: []byte(publishBody)})
		if err != nil {
			return err
		}
		if !d.Allowed {
			return denied
		}
	}
	return nil
}

func (h lending) published(ctx context.Context, p engine.Publication) (*engine.Published, error) {
	o, rest, err := h.target(p.Path)
	if err != nil {
		return nil, err
	}
	return o.Versioned.Published(ctx, rest)
}

func (h lending) versions(ctx context.Context, path string) ([]engine.Published, error) {
	o, rest, err := h.target(path)
	if err != nil {
		return nil, err
	}
	return o.Versioned.Versions(ctx, rest)
}

// revokeWait undoes the leases of a token that has been revoked, for as long
// as who revoked it may wait.
func (h *house) revokeWait(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := h.leases.NowOwned(ctx, id, time.Now()); err != nil {
		h.log.Warn("undoing the leases of a revoked token; the due loop goes on with it", "error", err)
	}
}

// maker is who gives a token its policies: the request's caller, or, where there is
// none, the login method.
func maker(r *route.Request) token.Maker {
	if r.Caller == nil {
		return token.Maker{Login: true}
	}
	return token.Maker{Policies: r.Caller.Policies, Sudo: r.Sudo}
}

// issueToken decides by whose power a token gets its policies, bounds its life by its mount and
// the system, and makes it.
func (h *house) issueToken(ctx context.Context, r *route.Request, s mounts.Bounds, e token.Entry, ask token.Ask, parent *token.Entry) (*route.Auth, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	if e.Created = now; e.Path == "" {
		e.Path = string(r.Path)
	}
	if err := policies.Check(ask.Names); err != nil {
		return nil, err
	}
	grant, err := token.Give(maker(r), ask)
	if err != nil {
		return nil, err
	}
	root := grant.Root()
	if root && e.Batch {
		return nil, fault.New("core.issueToken", fault.Invalid, "batch tokens cannot be root tokens; leave the policy \"root\" out, or make a service token")
	}
	if e.Period > 0 {
		if e.Period > s.MaxTTL {
			r.Warn("the period of %s is capped to %s, the maximum", e.Period, s.MaxTTL)
			e.Period = s.MaxTTL
		}
		e.TTL = e.Period
	}
	if e.TTL == 0 && !root {
		e.TTL = s.DefaultTTL
	}
	for _, limit := range []time.Duration{s.MaxTTL, e.ExplicitMax} {
		if limit > 0 && e.TTL > limit {
			r.Warn("the TTL of %s is capped to %s, the maximum", e.TTL, limit)
			e.TTL = limit
		}
	}
	if root && e.TTL == 0 && parent != nil && !parent.Expires.IsZero() {
		return nil, fault.New("core.issueToken", fault.Invalid, "an expiring root token cannot create a root token that never expires; send a ttl")
	}
	if e.TTL > 0 {
		e.Expires = now.Add(e.TTL)
	} else {
		e.Renewable = false
	}
	tok, made, err := h.tokens.Create(ctx, &e, grant, parent)
	if err != nil {
		return nil, err
	}
	if parent != nil {
		h.warnOfAbsent(ctx, r, made.Policies())
	}
	a := AuthOf(made)
	a.ClientToken, a.TokenID = tok, made.ID
	return a, nil
}

// warnOfAbsent tells who gives policies away which of them nobody has written.
func (h *house) warnOfAbsent(ctx context.Context, r *route.Request, names []string) {
	absent, err := h.policies.Absent(ctx, names)
	if err != nil {
		return // the token says so when it is used
	}
	for _, name := range absent {
		r.Warn("policy %q does not exist: it allows nothing until it is written", name)
	}
}

// AuthOf is the answer's auth block for a token, without the token.
func AuthOf(e *token.Entry) *route.Auth {
	kind := "service"
	if e.Batch {
		kind = "batch"
	}
	return &route.Auth{
		Accessor: e.Accessor, Policies: e.Policies(), TokenPolicies: e.Policies(), Metadata: e.Meta, LeaseDuration: e.TTL,
		Renewable: e.Renewable, EntityID: e.EntityID, TokenType: kind, Orphan: e.Orphan(), NumUses: max(e.Uses, 0),
	}
}
