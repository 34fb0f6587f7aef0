// Package route binds typed handlers to operations on path patterns.
//
// An engine, a login method and core's own sys return a list of [Route]s. On
// infers the request's and the answer's type from the handler; from them come
// decoding, the warning about unknown parameters, help and the OpenAPI document. Engines
// see Go structs, never maps.
//
// A pattern is a path below the mount: literal segments, "{name}" for one segment, "{name...}" for
// the rest (at least one segment, or, for a List, none). Literal segments win over names. The
// request type says where its fields come from: a tag path:"name" takes it from the pattern (a
// field that is a [secret.Value] makes that segment secret, see [Request.Shown]), a tag
// json:"name" from the body of a write or the query of a read; json:",whole" on a wire.Raw takes
// the whole body. A tag doc:"…" tells readers what the field is for, default:"…" what holds
// without it.
//
// Invariant: what a handler sees of the path is cut from the one canonical
// [Path] that the policies judged.
package route

import (
	"context"
	"maps"
	"reflect"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// None is the request type of a handler that takes nothing, and the answer
// type of one that returns nothing (204).
type None struct{}

// Keys is the answer to a List. No keys is a 404, as in Vault.
type Keys struct {
	Keys []string       `json:"keys"`
	Info map[string]any `json:"key_info,omitempty"`
}

// A Plan says what a leased route is about to create, before any effect. It is
// made durable, and only then is the create function called.
type Plan struct {
	Kind      string        // which of the engine's secrets; Undo gets it back
	Undo      any           // JSON of what Undo and Renew need; stored sealed
	TTL       time.Duration // 0: the mount's default
	MaxTTL    time.Duration // 0: the mount's maximum
	Renewable bool
	// Target names the thing outside that Undo talks to, within the mount
	// ("config/production"). Leases of one target wait for each other's
	// failures; those of another never do.
	Target string
	// CreateWithin bounds the create call (0: 60 s). Late is how long after it an effect may
	// still come (0: 15 min); Settled, where the engine has it, can say so sooner.
	CreateWithin, Late time.Duration
	// FromGrant: the TTL counts from the end of create, because that takes long and nothing
	// outside has been told when the lease ends.
	FromGrant bool
	// Again, if there is one, is an earlier lease that the engine would rather give out once
	// more. It is, unless it ends soon, has ended, or is another token's; then the plan is
	// carried out.
	Again *Again
}

// Again is an earlier lease and the answer that goes with it.
type Again struct {
	Lease string
	Data  any
}

// An Attempt is given to create: its id marks the object outside, if the
// target can be told.
type Attempt struct {
	ID      string // unique, [a-z0-9-], at most 40 bytes
	LeaseID string
	TTL     time.Duration // what was decided, within all bounds
	Expires time.Time
	Max     time.Time // when it will have ended, however often it is renewed
}

// A Route is one row of a table.
type Route struct {
	Op      Op // Write for both create and update
	Pattern string
	In, Out reflect.Type
	Help    string
	// Public: served without a token. Sudo: the policy must grant sudo as well.
	// Own: any valid token is let in, which costs it none of its uses, and the
	// handler judges by its policies what it may see.
	Public, Sudo, Own bool
	// Rescue: served although no audit device writes, for it is what an operator
	// needs then; its audit entries are kept until one does.
	Rescue bool
	// Leaf: the path ends in a name, and no name ends in a slash.
	Leaf bool
	// Deprecated: there is a better form, which Help names.
	Deprecated bool
	// Exists tells create from update, for the policy; nil: always update.
	Exists func(ctx context.Context, r *Request) (bool, error)

	form  *wire.Form                              // of In
	docs  map[string]string                       // of parameters, by name
	spell map[string]func(string) (string, error) // the one form of a name in the path
	rest  []Param                                 // that no field of In is for
	hide  map[string]func(string) string          // what others read of a name in the path, in place of it
	// hidden is the name in the pattern whose field of In is a secret.Value, if there is one.
	hidden string
	serve  func(context.Context, *Request) (any, error)
	plan   func(context.Context, *Request) (Plan, CreateFunc, error)
}

// CreateFunc carries out a plan.
type CreateFunc func(ctx context.Context, a Attempt) (data any, err error)

// Leased reports whether the route's answers carry a lease.
func (r *Route) Leased() bool { return r.plan != nil }

// Serve calls the handler of a route without a lease. A nil answer with a nil error
// means that there is nothing to say: 204.
func (r *Route) Serve(ctx context.Context, req *Request) (any, error) { return r.serve(ctx, req) }

// Plan calls the planning half of a leased route. It has no effect outside.
func (r *Route) Plan(ctx context.Context, req *Request) (Plan, CreateFunc, error) {
	return r.plan(ctx, req)
}

// On makes a route of a handler. A nil pointer in place of an answer is a 404
// without a message; None is a 204.
func On[In, Out any](op Op, pattern string, h func(context.Context, *Request, In) (Out, error)) Route {
	return Route{
		Op: op, Pattern: pattern, In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out](),
		form: wire.FormOf(reflect.TypeFor[In]()),
		serve: func(ctx context.Context, r *Request) (any, error) {
			in, err := decodeInto[In](r)
			if err != nil {
				return nil, err
			}
			out, err := h(ctx, r, in)
			if err != nil {
				return nil, err
			}
			return answer(out)
		},
	}
}

// Lease makes a leased route: plan decides, without effect, what create is to
// make; S is what the two hand on in memory (the password, the connection). create runs on
// a context of the server's, not of the request.
func Lease[In, S, Out any](op Op, pattern string,
	plan func(context.Context, *Request, In) (Plan, S, error),
	create func(context.Context, Attempt, S) (Out, error),
) Route {
	return Route{
		Op: op, Pattern: pattern, In: reflect.TypeFor[In](), Out: reflect.TypeFor[Out](),
		form: wire.FormOf(reflect.TypeFor[In]()),
		plan: func(ctx context.Context, r *Request) (Plan, CreateFunc, error) {
			in, err := decodeInto[In](r)
			if err != nil {
				return Plan{}, nil, err
			}
			p, state, err := plan(ctx, r, in)
			if err != nil {
				return Plan{}, nil, err
			}
			return p, func(ctx context.Context, a Attempt) (any, error) {
				out, err := create(ctx, a, state)
				if err != nil {
					return nil, err
				}
				return answer(out)
			}, nil
		},
	}
}

// WithExists returns the route with the function that tells create from update.
func (r Route) WithExists(f func(ctx context.Context, r *Request) (bool, error)) Route {
	r.Exists = f
	return r
}

// WithLeaf returns the route for names that do not end in a slash. Otherwise, a write to
// "app/" would overwrite "app".
func (r Route) WithLeaf() Route { r.Leaf = true; return r }

// WithSudo returns the route with the demand for sudo.
func (r Route) WithSudo() Route { r.Sudo = true; return r }

// WithName returns the route with the one form of a name in its pattern: canon returns it,
// or why there is no such name. A request that spells the name in another way is refused with
// the form, before its policies are asked: what they judge is what the handler acts upon.
func (r Route) WithName(name string, canon func(string) (string, error)) Route {
	r.spell = maps.Clone(r.spell)
	if r.spell == nil {
		r.spell = map[string]func(string) (string, error){}
	}
	r.spell[name] = canon
	return r
}

// Form says how the members of a request's body are read.
func (r *Route) Form() *wire.Form { return r.form }

// WithDeprecated returns the route marked as deprecated.
func (r Route) WithDeprecated() Route { r.Deprecated = true; return r }

// WithPublic returns the route open to callers without a token.
func (r Route) WithPublic() Route { r.Public = true; return r }

// WithOwn returns the route open to every token: its handler judges.
func (r Route) WithOwn() Route { r.Own = true; return r }

// WithRescue returns the route served while no audit device writes.
func (r Route) WithRescue() Route { r.Rescue = true; return r }

// WithHelp returns the route with its help text.
func (r Route) WithHelp(text string) Route { r.Help = text; return r }

func answer(out any) (any, error) {
	switch t := out.(type) {
	case None, *None:
		return nil, nil
	case Keys:
		if len(t.Keys) == 0 {
			return nil, fault.New("", fault.NotFound, "")
		}
		return t, nil
	case nil:
		return nil, nil
	}
	if v := reflect.ValueOf(out); v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, fault.New("", fault.NotFound, "")
	}
	return out, nil
}

// decodeInto fills an In from the pattern's names, the query and the body.
func decodeInto[In any](r *Request) (In, error) {
	var in In
	t := reflect.TypeFor[In]()
	if t == reflect.TypeFor[None]() || t.Kind() != reflect.Struct {
		return in, nil
	}
	form := wire.FormOf(t)
	for _, p := range pathFields(t) {
		field := reflect.ValueOf(&in).Elem().FieldByIndex(p.index)
		if p.secret {
			field.Set(reflect.ValueOf(secret.Text(r.Param(p.name))))
		} else {
			field.SetString(r.Param(p.name))
		}
	}
	if len(r.Query) > 0 && r.Op != Create && r.Op != Write && r.Op != Patch {
		for name, values := range r.Query {
			if len(values) == 0 || name == "list" {
				continue
			}
			known, err := wire.SetText(&in, form.First(name), values[len(values)-1])
			if err != nil {
				return in, err
			}
			if !known {
				r.Warn("unknown parameter %q was ignored", name)
			}
		}
	}
	if len(r.Body) == 0 {
		return in, nil
	}
	body, err := form.Rename(r.Body) // as core has, where it stands before
	if err != nil {
		return in, err
	}
	unknown, err := wire.Decode(body, &in)
	if err != nil {
		return in, err
	}
	for _, name := range unknown {
		r.Warn("unknown parameter %q was ignored", name)
	}
	return in, nil
}

// Leasing is the answer to the renewal of a lease: it stands in the envelope
// and not in its data.
type Leasing struct {
	ID        string
	TTL       time.Duration
	Renewable bool
}
