package core

import (
	"context"
	"iter"
	"strings"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// publishing writes rotated credentials into the versioned kv mounts where their consumers read
// them.
type publishing struct {
	mounts   *mounts.Manager
	policies *policies.Manager
	trail    *trail
}

// publish writes a rotated credential with the policies that configured its key. The policies are
// evaluated as they are now, not as they were then.
func (p *publishing) publish(ctx context.Context, pub engine.Publication) (int, error) {
	o, rest, err := kvTarget(p.mounts, pub.Path)
	if err != nil {
		return 0, err
	}
	full := o.Entry().Path + "data/" + rest
	denied := fault.New("core.publish", fault.Denied,
		"the policies %s of the person who configured the key do not allow writing %q; grant create and update, or "+
			"configure the key again with a token that may write there",
		strings.Join(pub.Policies, ", "),
		full)
	if err := p.writable(ctx, pub.Policies, full, denied); err != nil {
		return 0, err
	}
	e, version := o.Entry(), 0
	a := audit.Action{
		ID: NewRequestID(), Actor: audit.ActorRotation, Operation: "update", Path: e.Path + "data/" + rest,
		Mount:  audit.Mount{Point: e.Path, Type: e.Type, Accessor: e.Accessor, Class: e.Class},
		Detail: audit.Detail{"rotation": pub.Turn, "key": pub.Key, "step": "publish"},
	}
	err = p.trail.act(ctx, a, func(ctx context.Context) error {
		version, err = o.Versioned.Publish(ctx, rest, pub)
		return err
	})
	return version, err
}

// mayPublish refuses a caller who configures a publication to a secret that their policies do not
// allow to write. The path has no "data/" in it.
func (p *publishing) mayPublish(ctx context.Context, names []string, path string) error {
	o, rest, err := kvTarget(p.mounts, path)
	if err != nil {
		return err
	}
	full := o.Entry().Path + "data/" + rest
	return p.writable(ctx, names, full, fault.New("core.mayPublish", fault.Denied,
		"field \"path\": your policies must allow writing %q, where the key is published; add a rule for %q "+
			"with the capabilities create and update, or name another path",
		path,
		full))
}

// mayRead refuses a caller whose policies do not allow to read a secret.
func (p *publishing) mayRead(ctx context.Context, names []string, path string) error {
	o, rest, err := kvTarget(p.mounts, path)
	if err != nil {
		return err
	}
	full := o.Entry().Path + "data/" + rest
	d, err := p.policies.Decide(ctx, names, policies.Query{Path: full, Op: route.Read})
	if err != nil || d.Allowed {
		return err
	}
	return fault.New("core.mayRead", fault.Denied,
		"field \"path\": your policies must allow reading %q, because the recipe gets each new key; add a rule for "+
			"%q with the capability read, or name another path", path, full)
}

// publishBody is the body of a publication, as far as parameter rules of policies can see it.
const publishBody = `{"data":{}}`

// writable returns denied unless the policies allow both to create and to update a path.
func (p *publishing) writable(ctx context.Context, names []string, path string, denied error) error {
	for _, op := range []route.Op{route.Create, route.Write} {
		d, err := p.policies.Decide(ctx, names, policies.Query{Path: path, Op: op, Body: []byte(publishBody)})
		if err != nil {
			return err
		}
		if !d.Allowed {
			return denied
		}
	}
	return nil
}

func (p *publishing) published(ctx context.Context, pub engine.Publication) (*engine.Published, error) {
	o, rest, err := kvTarget(p.mounts, pub.Path)
	if err != nil {
		return nil, err
	}
	return o.Versioned.Published(ctx, rest)
}

func (p *publishing) versions(ctx context.Context, path string) ([]engine.Published, error) {
	o, rest, err := kvTarget(p.mounts, path)
	if err != nil {
		return nil, err
	}
	return o.Versioned.Versions(ctx, rest)
}

// rotating lists the rotation status of every record that the policies allow to read, in all
// engines.
func (p *publishing) rotating(ctx context.Context, names []string) iter.Seq2[engine.Rotating, error] {
	return func(yield func(engine.Rotating, error) bool) {
		for _, o := range p.mounts.Snapshot().Rotators() {
			for s, err := range o.Rotator.Rotations().Statuses(ctx) {
				if s.Path != "" {
					d, derr := p.policies.Decide(ctx, names, policies.Query{Path: s.Path, Op: route.Read})
					if derr != nil {
						yield(engine.Rotating{}, derr) // the list ends here: it must not look like a damaged record
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
