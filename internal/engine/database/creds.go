package database

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/token"
)

// lent is what undo and renewal need to know of a user.
type lent struct {
	Config     string    `json:"c"` // id
	Role       string    `json:"r"`
	User       string    `json:"u"`
	Deadline   time.Time `json:"d"`           // of the create
	Revocation []string  `json:"v,omitempty"` // as they were, should the role be gone
	Renewal    []string  `json:"w,omitempty"`
	Terminate  bool      `json:"t,omitempty"`
}

// planned is what plan hands to create, in memory alone.
type planned struct {
	lent
	conn     *conn
	role     *role
	password secret.Value
}

type credsOut struct {
	Password secret.Value `json:"password"`
	Username string       `json:"username"`
}

// createWithin bounds one create at the database. It takes milliseconds; what a
// crash has left of one can be settled at its deadline at the earliest, so a
// longer bound would leave orphans for longer.
const createWithin = 8 * time.Second

// plan decides on a user, without touching the database.
func (b *backend) plan(ctx context.Context, _ *route.Request, in nameIn) (route.Plan, planned, error) {
	none := route.Plan{}
	ro, _, err := b.loadRole(ctx, in.Name)
	if err != nil {
		return none, planned{}, err
	}
	if ro == nil {
		return none, planned{}, fault.New("database.creds", fault.Invalid, "unknown role: %q", in.Name)
	}
	c, err := b.byName(ctx, ro.DB)
	if err != nil {
		return none, planned{}, err
	}
	if c == nil {
		return none, planned{}, fault.New("database.creds", fault.Upstream, "the role %q is for the connection %q, which is not configured", ro.Name, ro.DB)
	}
	if !c.allows(ro.Name) {
		return none, planned{}, fault.New("database.creds", fault.Upstream, "%q is not an allowed role of the connection %q; add it to allowed_roles", ro.Name, ro.DB)
	}
	p, err := b.provider(c.Plugin)
	if err != nil {
		return none, planned{}, err
	}
	pass, err := b.m.Host.Password(ctx, c.Policy)
	if err != nil {
		return none, planned{}, err
	}
	l := lent{
		Config: c.ID, Role: ro.Name, User: userName(ro.Name, b.m.Host.Installation, p.NameMax),
		Deadline: time.Now().Add(createWithin).UTC(), Revocation: ro.Revocation, Renewal: ro.Renewal, Terminate: ro.Terminate || c.Terminate,
	}
	return route.Plan{
		Kind: "user", Undo: l, TTL: ro.TTL, MaxTTL: ro.MaxTTL, Renewable: true, Target: c.target(),
		CreateWithin: createWithin, Late: 15 * time.Minute,
	}, planned{lent: l, conn: c, role: ro, password: pass}, nil
}

// userName makes a name that tells its role, and whose it is: v-<role>-<installation>-<random>-<unix>.
func userName(role, installation string, most int) string {
	clean := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, role)
	if most <= 0 || most > 63 {
		most = 63
	}
	tail := fmt.Sprintf("-%s-%s-%d", strings.ReplaceAll(installation, "-", "")[:min(6, len(installation))], token.Random(12), time.Now().Unix())
	if len(tail)+2 >= most {
		tail = "-" + token.Random(12)
	}
	return "v-" + clean[:min(len(clean), most-2-len(tail))] + tail
}

// create makes the user.
func (b *backend) create(ctx context.Context, a route.Attempt, p planned) (*credsOut, error) {
	pool, err := b.pool(p.conn)
	if err != nil {
		return nil, err
	}
	u := User{Name: p.User, Password: p.password, Expires: a.Expires, Attempt: Attempt{ID: a.ID, Deadline: p.Deadline}}
	if err := pool.Create(ctx, u, p.role.Creation, p.role.Rollback); err != nil {
		return nil, err
	}
	return &credsOut{Password: p.password, Username: p.User}, nil
}

// of decodes what a lease knows and finds its pool.
func (b *backend) of(ctx context.Context, u engine.Undo) (lent, *conn, Conn, error) {
	var l lent
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return l, nil, nil, fault.Wrap("database.of", fault.Internal, err)
	}
	c, err := b.byID(ctx, l.Config)
	if err != nil {
		return l, nil, nil, err
	}
	if c == nil {
		return l, nil, nil, fault.New("database.of", fault.Internal, "the connection that made %q is gone from the store; drop the user by hand and use revoke-force", l.User)
	}
	pool, err := b.pool(c)
	return l, c, pool, err
}

// Undo removes a user. A create that may still come is settled first.
func (b *backend) Undo(ctx context.Context, u engine.Undo) (engine.Undone, error) {
	l, c, pool, err := b.of(ctx, u)
	if err != nil {
		return engine.Undone{}, err
	}
	if !u.Granted {
		settled, err := pool.SettleAttempt(ctx, Attempt{ID: u.Attempt, Deadline: l.Deadline})
		if err != nil {
			return engine.Undone{}, err
		}
		if !settled {
			return engine.Undone{Again: later(l.Deadline, time.Now()), Note: "a create of it may still be under way"}, nil
		}
	}
	ro, was, err := b.loadRole(ctx, l.Role)
	if err != nil {
		return engine.Undone{}, err
	}
	if ro != nil { // the role as it is now knows better than as it was
		l.Revocation, l.Terminate = ro.Revocation, ro.Terminate || c.Terminate
	}
	report, err := pool.Drop(ctx, l.User, DropOptions{Statements: l.Revocation, TerminateSessions: l.Terminate})
	if err != nil {
		return engine.Undone{}, err
	}
	note := strings.Join(report.Notes, "; ")
	if report.Remains {
		return engine.Undone{}, fault.New("database.Undo", fault.Upstream, "revocation_statements of the role %q succeed and leave the user %q; correct them", l.Role, l.User)
	}
	if note != "" {
		b.m.Log.Warn("a revocation had to do more than its statements say", "role", l.Role, "note", note)
		if ro != nil && ro.Note != note {
			ro.Note = note
			if err := b.saveRole(ctx, ro, was); err != nil && !fault.Is(err, fault.Unavailable) {
				return engine.Undone{}, err
			}
		}
	}
	if !c.Gone.IsZero() {
		return engine.Undone{Note: note}, b.scheduleBurial(ctx, c)
	}
	return engine.Undone{Note: note}, nil
}

// later is when to ask again after an attempt that is not settled: at its
// deadline, and then every other second.
func later(deadline, now time.Time) time.Time {
	const again = 2 * time.Second
	if next := deadline.Add(time.Second); next.After(now.Add(again)) {
		return next
	}
	return now.Add(again)
}

// buryKind is the work of forgetting a tombstone after its last lease, whose
// record goes only after its undo has returned.
const buryKind = "bury"

func (b *backend) scheduleBurial(ctx context.Context, c *conn) error {
	at := time.Now().Add(10 * time.Second).Truncate(10 * time.Second)
	_, err := b.m.Store.CommitWith(ctx, nil, b.m.Host.Schedule(buryKind, c.ID+"/"+fmt.Sprint(at.Unix()), time.Time{}, at))
	return err
}

// Work forgets a tombstone that no lease needs any more.
func (b *backend) Work(ctx context.Context, kind, id string) error {
	connID, unix, _ := strings.Cut(id, "/")
	if kind == buryKind {
		c, err := b.byID(ctx, connID)
		if err != nil {
			return err
		}
		if c != nil {
			if err := b.bury(ctx, c); err != nil {
				return err
			}
		}
	}
	var at int64
	if _, err := fmt.Sscan(unix, &at); err != nil {
		return fault.Wrap("database.Work", fault.Internal, err)
	}
	_, err := b.m.Store.CommitWith(ctx, nil, b.m.Host.Schedule(kind, id, time.Unix(at, 0), time.Time{}))
	return err
}

// Renew moves the user's own end.
func (b *backend) Renew(ctx context.Context, u engine.Undo, expires time.Time) error {
	l, _, pool, err := b.of(ctx, u)
	if err != nil {
		return err
	}
	if ro, _, err := b.loadRole(ctx, l.Role); err != nil {
		return err
	} else if ro != nil {
		l.Renewal = ro.Renewal
	}
	return pool.Renew(ctx, l.User, expires, l.Renewal)
}

// Bounds are the role's; a role that is gone bounds nothing but what the lease was made with.
func (b *backend) Bounds(ctx context.Context, u engine.Undo) (ttl, most time.Duration, err error) {
	var l lent
	if err := json.Unmarshal(u.Data, &l); err != nil {
		return 0, 0, fault.Wrap("database.Bounds", fault.Internal, err)
	}
	ro, _, err := b.loadRole(ctx, l.Role)
	if err != nil || ro == nil {
		return 0, 0, err
	}
	return ro.TTL, ro.MaxTTL, nil
}
