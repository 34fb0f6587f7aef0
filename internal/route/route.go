// Package route binds typed handlers to operations on path patterns.
//
// Engines, login methods and core's package sys return lists of [Route]s. On infers the types of
// the request and the answer from the handler; decoding, warnings about unknown parameters, help
// and the OpenAPI document are derived from them. Engines get Go structs, never maps.
//
// A pattern is a path below the mount: literal segments, "{name}" for one segment, "{name...}" for
// the rest (at least one segment, or, for a List, none). Literal segments win over names. The
// request type says where its fields come from: a tag path:"name" takes it from the pattern (a
// field that is a [secret.Value] makes that segment secret, see [Request.Shown]), a tag
// json:"name" from the body of a write or the query of a read; json:",whole" on a wire.Raw takes
// the whole body. A tag doc:"…" tells readers what the field is for, default:"…" what holds
// without it.
//
// Invariant: the parts of the path that a handler gets are parts of the canonical [Path] that the
// policies judged.
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

// None is the request type of a handler without parameters, and the answer type of one that
// returns nothing (204).
type None struct{}

// Keys is the answer to a List. No keys is a 404, as in Vault.
type Keys struct {
	Keys []string       `json:"keys"`
	Info map[string]any `json:"key_info,omitempty"`
}

// A Plan says what a leased route will create. It is stored before the create function is called.
type Plan struct {
	Kind      string        // which of the engine's secrets; Undo gets it back
	Undo      any           // JSON of what Undo and Renew need; stored sealed
	TTL       time.Duration // 0: the mount's default
	MaxTTL    time.Duration // 0: the mount's maximum
	Renewable bool
	// Target is what Undo connects to, within the mount ("config/production"). A failure of a
	// target delays only its own leases.
	Target string
	// CreateWithin limits the create call (0: 60 s). Late is how long after it a create may still
	// take effect (0: 15 min).
	CreateWithin, Late time.Duration
	// FromGrant: the TTL starts at the end of create, because that takes long, and the target does
	// not know when the lease ends.
	FromGrant bool
	// Again is an earlier lease that the engine prefers to a new one; nil: none. It is reused
	// unless it has ended, ends soon, or belongs to another token.
	Again *Again
}

// Again is an earlier lease and the answer that goes with it.
type Again struct {
	Lease string
	Data  any
}

// An Attempt is the parameter of create. Its ID marks the created object, if the target supports
// that.
type Attempt struct {
	ID      string // unique, [a-z0-9-], at most 40 bytes
	LeaseID string
	TTL     time.Duration // what was decided, within all bounds
	Expires time.Time
	Max     time.Time // the latest end, with all renewals
}

// A Route is one row of a table.
type Route struct {
	Op      Op // Write for both create and update
	Pattern string
	In, Out reflect.Type
	Help    string
	// Public: served without a token. Sudo: the policy must grant sudo as well. Own: every valid
	// token is allowed, without counting a use, and the handler decides by its policies what it
	// may see.
	Public, Sudo, Own bool
	// Rescue: served even if no audit device works, because an operator needs it then; its audit
	// entries are written later.
	Rescue bool
	// Leaf: the path ends in a name, and no name ends in a slash.
	Leaf bool
	// Deprecated: there is a better form, which Help names.
	Deprecated bool
	// Exists distinguishes create from update, for the policy; nil: always update.
	Exists func(ctx context.Context, r *Request) (bool, error)

	form  *wire.Form                              // of In
	docs  map[string]string                       // of parameters, by name
	spell map[string]func(string) (string, error) // returns the canonical form of a name in the path
	rest  []Param                                 // parameters without a field of In
	hide  map[string]func(string) string          // returns what is shown instead of a name in the path
	// hidden is the name in the pattern whose field of In is a secret.Value, if there is one.
	hidden string
	serve  func(context.Context, *Request) (any, error)
	plan   func(context.Context, *Request) (Plan, CreateFunc, error)
}

// CreateFunc carries out a plan.
type CreateFunc func(ctx context.Context, a Attempt) (data any, err error)

// Leased reports whether the route's answers carry a lease.
func (r *Route) Leased() bool { return r.plan != nil }

// Serve calls the handler of a route without a lease. A nil answer without an error is a 204.
func (r *Route) Serve(ctx context.Context, req *Request) (any, error) { return r.serve(ctx, req) }

// Plan calls the planning half of a leased route. It has no effect outside.
func (r *Route) Plan(ctx context.Context, req *Request) (Plan, CreateFunc, error) {
	return r.plan(ctx, req)
}

// On returns a route with a handler. If the handler returns a nil pointer, the answer is a 404
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

// Lease returns a leased route. plan decides, without effect, what create will create; S is what
// plan passes to create in memory, such as a password or a connection. The context of create is
// the server's, not the request's.
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

// WithExists returns the route with the function that distinguishes create from update.
func (r Route) WithExists(f func(ctx context.Context, r *Request) (bool, error)) Route {
	r.Exists = f
	return r
}

// WithLeaf returns the route for names that do not end in a slash. Otherwise, a write to
// "app/" would overwrite "app".
func (r Route) WithLeaf() Route { r.Leaf = true; return r }

// WithSudo returns the route, requiring sudo.
func (r Route) WithSudo() Route { r.Sudo = true; return r }

// WithName returns the route with a canonical form of a name in its pattern: canon returns it, or
// an error. A request with another spelling is refused before its policies are evaluated, so that
// policies judge the name that the handler uses.
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

// WithPublic returns the route, open to callers without a token.
func (r Route) WithPublic() Route { r.Public = true; return r }

// WithOwn returns the route, open to every token.
func (r Route) WithOwn() Route { r.Own = true; return r }

// WithRescue returns the route, which is served even if no audit device works.
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

// Leasing is the answer to the renewal of a lease, which is in the envelope, not in its data.
type Leasing struct {
	ID        string
	TTL       time.Duration
	Renewable bool
}
