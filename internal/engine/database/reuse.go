package database

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A client that reads a role whenever it starts, or on each of its threads, makes a user each time.
// With reuse=token, the same token is given the user of its unexpired lease again. For that the
// password is kept, sealed, until the lease ends:
//
//	again/<role>/<digest of the token's id>
const (
	reusePrefix = "again/"
	reuseToken  = "token"
)

// A kept user may be given out again.
type reusableUser struct {
	issuedWith

	Lease    string `json:"lease"`
	User     string `json:"user"`
	Kind     string `json:"kind,omitempty"` // empty: a password
	Password []byte `json:"pw"`
}

// again finds the user that a token was given before, and notes in p where the next one is kept.
func (b issuing) again(ctx context.Context, r *route.Request, ro *role, p *issuePlan) (*route.Again, error) {
	if ro.Reuse != reuseToken || r.Caller == nil || r.Caller.ID == "" {
		return nil, nil
	}
	sum := sha256.Sum256([]byte(r.Caller.ID))
	p.Again = reusePrefix + p.Role + "/" + hex.EncodeToString(sum[:])
	e, err := b.m.Store.Get(ctx, p.Again)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	var k reusableUser
	if err := json.Unmarshal(e.Value, &k); err != nil {
		return nil, fault.Wrap("database.again", fault.Internal, err)
	}
	if k.issuedWith != p.by {
		return nil, nil
	}
	if k.Kind == "" {
		k.Kind = typePassword
	}
	was, err := login{k.Kind, secret.New(k.Password)}.out()
	if err != nil {
		return nil, err
	}
	return &route.Again{Lease: k.Lease, Data: &credsOut{Username: k.User, loginOut: was}}, nil
}

// keep keeps a user that was made. Without it, the next read makes another.
func (b issuing) keep(ctx context.Context, a route.Attempt, p issuePlan) {
	if p.Again == "" {
		return
	}
	text, err := json.Marshal(reusableUser{issuedWith: p.by, Lease: a.LeaseID, User: p.User, Kind: p.login.kind, Password: p.login.secret.Reveal()})
	if err == nil {
		_, err = b.m.Store.Commit(ctx, storage.Set(p.Again, text))
	}
	if err != nil {
		b.m.Log.Warn("keeping a user for the next read of its token; that makes another", "role", p.Role, "error", err)
	}
}

// forget drops what was kept for a lease that has ended.
func (b issuing) forget(ctx context.Context, lease, key string) {
	if key == "" {
		return
	}
	e, err := b.m.Store.Get(ctx, key)
	var k reusableUser
	if err == nil && e.Version != 0 {
		err = json.Unmarshal(e.Value, &k)
	}
	if err == nil && k.Lease == lease {
		_, err = b.m.Store.Commit(ctx, storage.Remove(key).If(e.Version))
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		b.m.Log.Warn("dropping what was kept of a user that is gone; its password works no more", "lease", lease, "error", err)
	}
}
