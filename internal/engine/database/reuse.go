package database

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// A client that reads a role on every start, or on each of its threads, creates a user each time.
// With reuse=token, a token that reads again gets the user of its unexpired lease again. For that,
// the password is stored, encrypted, until the lease ends:
//
//	again/<role>/<digest of the token's id>
const (
	reusePrefix = "again/"
	reuseToken  = "token"
)

type reuseRow = engine.Rows[reusableUser]

// A reusableUser is a stored user that its token gets again.
type reusableUser struct {
	userSource

	Lease    string `json:"lease"`
	User     string `json:"user"`
	Kind     string `json:"kind,omitempty"` // empty: a password
	Password []byte `json:"pw"`
}

// reusableUsers stores users of roles with reuse=token.
type reusableUsers struct{ m *engine.Mount }

// find returns the user that the token got before, and sets p.ReuseKey.
func (s *reusableUsers) find(ctx context.Context, r *route.Request, ro *role, p *issuePlan) (*route.Again, error) {
	if ro.Reuse != reuseToken || r.Caller == nil || r.Caller.ID == "" {
		return nil, nil
	}
	sum := sha256.Sum256([]byte(r.Caller.ID))
	p.ReuseKey = reusePrefix + p.Role + "/" + hex.EncodeToString(sum[:])
	u, _, err := reuseRow(p.ReuseKey).Get(ctx, s.m.Store, "")
	if err != nil || u == nil || u.userSource != p.source {
		return nil, err
	}
	if u.Kind == "" {
		u.Kind = typePassword
	}
	out, err := login{kind: u.Kind, secret: secret.New(u.Password)}.out()
	if err != nil {
		return nil, err
	}
	return &route.Again{Lease: u.Lease, Data: &credsOut{Username: u.User, loginOut: out}}, nil
}

// store stores a created user. An error is only logged, because the next read then creates
// another user.
func (s *reusableUsers) store(ctx context.Context, a route.Attempt, p issuePlan) {
	if p.ReuseKey == "" {
		return
	}
	err := reuseRow(p.ReuseKey).Put(ctx, s.m.Store, "", reusableUser{
		userSource: p.source, Lease: a.LeaseID, User: p.User, Kind: p.login.kind, Password: p.login.secret.Reveal(),
	})
	if err != nil {
		s.m.Log.Warn("storing a user for reuse failed; the next read of its token creates another", "role", p.Role,
			"error", err)
	}
}

// remove removes the stored user of a lease that has ended. An error is only logged, because the
// stored password does not work any more.
func (s *reusableUsers) remove(ctx context.Context, lease, key string) {
	if key == "" {
		return
	}
	u, version, err := reuseRow(key).Get(ctx, s.m.Store, "")
	if u != nil && u.Lease == lease {
		_, err = s.m.Store.Commit(ctx, storage.Remove(key).If(version))
	}
	if err != nil && !fault.Is(err, fault.Conflict) {
		s.m.Log.Warn("removing a revoked user that was stored for reuse failed; its password does not work any more",
			"lease", lease, "error", err)
	}
}
