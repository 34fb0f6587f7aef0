// Package auth is the contract between core and a login method: a mount below
// auth/ that serves routes and issues tokens. Implementations are subfolders; each exports one [Type].
package auth

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/token"
)

// A Type is a kind of login method.
type Type struct {
	Name string // "approle"
	// Single: mounted once, by core, and not by users (token).
	Single bool
	// Open starts the method for one mount. ctx ends when the mount is
	// disabled or the server is sealed.
	Open func(ctx context.Context, m *Mount) (Method, error)
}

// A Mount is all that a login method is given of the world.
type Mount struct {
	UUID     string
	Accessor string
	Store    *barrier.View // encrypted, rooted at mount/<uuid>/
	Log      *slog.Logger
	Settings func() Settings
	Tokens   *token.Store
	// Issue makes a token for the caller of r, or, where r has none, for who logs in: it
	// decides by [token.Assign] which policies the maker may give, bounds spec by the mount and
	// the system, commits it, and returns the answer's auth block. parent is the caller's
	// token, nil for a login.
	Issue func(ctx context.Context, r *route.Request, spec token.Entry, want token.Request, parent *token.Entry) (*route.Auth, error)
	// RevokeWait undoes the leases of a token that has been revoked, for as
	// long as the caller may wait.
	RevokeWait func(ctx context.Context, tokenID string)
}

// Settings of a mount that can change while it is open.
type Settings struct {
	Path       string // "auth/token/"
	DefaultTTL time.Duration
	MaxTTL     time.Duration
}

// A Method serves one mount.
type Method interface {
	Routes() []route.Route
	Close() error
}
