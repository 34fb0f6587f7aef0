// Package wrapping stores wrapped answers. Each has a wrapping token, which can only read it once.
//
//	wrapped/<token id>  the answer, with the path and time of its creation
//
// The row is committed together with its token. Unwrapping removes it, asserting its version,
// before the answer is sent, so that only one of two callers gets it. A token that was wrapped but
// never unwrapped is revoked when the wrapping token expires: first the row is marked as ended, so
// that it can no longer be unwrapped, then the token is revoked, then the row is removed.
package wrapping

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// Rows are the wrapped answers, by the wrapping token's ID.
const Rows barrier.Rows[Answer] = "wrapped/"

// A Store stores wrapped answers.
type Store struct {
	view   *barrier.View
	tokens *token.Store
}

// New returns a store.
func New(b *barrier.Barrier, tokens *token.Store) *Store {
	return &Store{view: b.View(""), tokens: tokens}
}

// An Answer is a wrapped answer.
type Answer struct {
	Path     string          `json:"path"` // creation_path
	Created  time.Time       `json:"created"`
	TTL      time.Duration   `json:"ttl"`
	Body     json.RawMessage `json:"body"`               // the whole answer
	Accessor string          `json:"accessor,omitempty"` // of the token inside
	// TokenID is the storage ID of the token in this answer, which is revoked if the answer is
	// never unwrapped. Batch tokens have none, because they are not stored.
	TokenID string `json:"token_id,omitempty"`
	Ended   bool   `json:"ended,omitempty"` // the wrapping has ended, and TokenID is being revoked
}

// Wrap stores an answer and returns its wrapping token. parent is the caller's token, or nil.
func (s *Store) Wrap(ctx context.Context, a Answer, parent *token.Entry) (secret.Value, *token.Entry, error) {
	return s.wrap(ctx, a, parent)
}

// wrap is Wrap with extra operations in its commit.
func (s *Store) wrap(
	ctx context.Context, a Answer, parent *token.Entry, extra ...storage.Op,
) (secret.Value, *token.Entry, error) {
	a.Created = time.Now().UTC()
	tok := secret.Text(token.ServicePrefix + token.Random(32))
	op, err := Rows.Set(s.tokens.ID(tok), a)
	if err != nil {
		return secret.Value{}, nil, err
	}
	e := &token.Entry{
		Path: a.Path, Created: a.Created, TTL: a.TTL,
		Expires: a.Created.Add(a.TTL), Wrapping: true,
	}
	return s.tokens.CreateAs(ctx, tok, e, token.ForWrapping(), parent, append(extra, op)...)
}

func errNone() error {
	return fault.New("wrapping", fault.Invalid,
		"wrapping token is not valid or does not exist: it has been unwrapped, has expired, or never was. If you "+
			"did not unwrap it, somebody else may have")
}

// find reads the row of a wrapping token that can still be unwrapped.
func (s *Store) find(ctx context.Context, tok secret.Value) (*token.Entry, storage.Entry, *Answer, error) {
	e, err := s.tokens.Lookup(ctx, tok)
	if fault.Is(err, fault.Denied) {
		return nil, storage.Entry{}, nil, errNone()
	}
	if err != nil {
		return nil, storage.Entry{}, nil, err
	}
	if !e.Wrapping || !e.Valid(time.Now()) {
		return nil, storage.Entry{}, nil, errNone()
	}
	row, err := s.view.Get(ctx, Rows.Key(e.ID))
	if err != nil {
		return nil, storage.Entry{}, nil, err
	}
	if row.Version == 0 {
		return nil, storage.Entry{}, nil, errNone()
	}
	a, err := Rows.Decode(row)
	if err != nil {
		return nil, storage.Entry{}, nil, err
	}
	if a.Ended {
		return nil, storage.Entry{}, nil, errNone()
	}
	return e, row, a, nil
}

// Lookup returns a wrapped answer without unwrapping it.
func (s *Store) Lookup(ctx context.Context, tok secret.Value) (*Answer, error) {
	_, _, a, err := s.find(ctx, tok)
	return a, err
}

// Unwrap returns the answer, once.
func (s *Store) Unwrap(ctx context.Context, tok secret.Value) (*Answer, error) {
	e, row, a, err := s.find(ctx, tok)
	if err != nil {
		return nil, err
	}
	_, err = s.view.Commit(ctx, storage.Remove(row.Key).If(row.Version))
	if fault.Is(err, fault.Conflict) {
		return nil, errNone()
	}
	if err != nil {
		return nil, err
	}
	s.drop(ctx, e)
	return a, nil
}

// Rewrap moves the answer to a new token in one commit, so that no crash loses it.
func (s *Store) Rewrap(ctx context.Context, tok secret.Value) (secret.Value, *token.Entry, *Answer, error) {
	e, row, a, err := s.find(ctx, tok)
	if err != nil {
		return secret.Value{}, nil, nil, err
	}
	fresh, made, err := s.wrap(ctx, *a, nil, storage.Remove(row.Key).If(row.Version))
	if fault.Is(err, fault.Invalid) { // another caller has unwrapped it meanwhile
		err = errNone()
	}
	if err != nil {
		return secret.Value{}, nil, nil, err
	}
	s.drop(ctx, e)
	return fresh, made, a, nil
}

// drop revokes a wrapping token that has been used. An error is ignored, because the answer must
// not be lost, and the token is useless and expires anyway.
func (s *Store) drop(ctx context.Context, e *token.Entry) { _ = s.tokens.Revoke(ctx, e.ID) }

// Forget removes the answer of a wrapping token that ends, and revokes the token in it. It does
// nothing if the answer has been unwrapped. It is repeatable.
func (s *Store) Forget(ctx context.Context, tokenID string) error {
	for {
		row, err := s.view.Get(ctx, Rows.Key(tokenID))
		if err != nil || row.Version == 0 {
			return err
		}
		switch err = s.forget(ctx, row); {
		case !fault.Is(err, fault.Conflict): // on conflict, it was just unwrapped, or ended by another server
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

func (s *Store) forget(ctx context.Context, row storage.Entry) error {
	a, err := Rows.Decode(row)
	if err != nil {
		return err
	}
	if a.TokenID != "" {
		if row.Version, err = s.end(ctx, row, a); err != nil {
			return err
		}
		if err := s.tokens.Revoke(ctx, a.TokenID); err != nil {
			return err
		}
	}
	_, err = s.view.Commit(ctx, storage.Remove(row.Key).If(row.Version))
	return err
}

// end marks an answer as ended, so that either its token is revoked, or a caller unwraps it, but
// not both.
func (s *Store) end(ctx context.Context, row storage.Entry, a *Answer) (storage.Version, error) {
	if a.Ended {
		return row.Version, nil
	}
	op, err := Rows.Set(strings.TrimPrefix(row.Key, string(Rows)),
		Answer{Path: a.Path, Created: a.Created, TTL: a.TTL, TokenID: a.TokenID, Ended: true})
	if err != nil {
		return 0, err
	}
	return s.view.Commit(ctx, op.If(row.Version))
}
