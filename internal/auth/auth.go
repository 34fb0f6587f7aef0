// Package auth is the contract between core and a login method: a mount below auth/ that serves
// routes and issues tokens. Each implementation is a subfolder that exports one [Type].
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
	// Single: only core mounts it, once (token).
	Single bool
	// Open starts the method for one mount. ctx ends when the mount is
	// disabled or the server is sealed.
	Open func(ctx context.Context, m *Mount) (Method, error)
}

// A Mount contains everything that core provides to a login method.
type Mount struct {
	UUID     string
	Accessor string
	Store    *barrier.View // encrypted, rooted at mount/<uuid>/
	Log      *slog.Logger
	Settings func() Settings
	Tokens   *token.Store
	// Issue creates a token for the caller of r or, without a caller, for a login. It checks by
	// [token.Assign] which policies may be assigned, limits spec by the mount and the system,
	// commits the token, and returns the answer's auth block. parent is the caller's token, nil
	// for a login.
	Issue func(ctx context.Context, r *route.Request, spec token.Entry, want token.Request,
		parent *token.Entry) (*route.Auth, error)
	// RevokeWait revokes the leases of a revoked token, for as long as the caller can wait.
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
