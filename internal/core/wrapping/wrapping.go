// Package wrapping keeps answers that were wrapped: each under a token of its
// own that can do nothing but read it once.
//
//	wrapped/<token id>  the answer, with where and when it was made
//
// The row is committed together with its token; unwrapping removes it with an
// assertion of its version before it is given out, so that of two who unwrap one gets it. A
// token that was wrapped and never unwrapped ends with the wrapping: first the row is committed
// as ended, so that nobody unwraps it any more, then the token is revoked, then the row goes.
package wrapping

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// Prefix of the rows' keys.
const Prefix = "wrapped/"

// A Store keeps wrapped answers.
type Store struct {
	view   *barrier.View
	tokens *token.Store
}

// New returns a store.
func New(b *barrier.Barrier, tokens *token.Store) *Store {
	return &Store{view: b.View(""), tokens: tokens}
}

// An Answer is one that is wrapped.
type Answer struct {
	Path     string          `json:"path"` // creation_path
	Created  time.Time       `json:"created"`
	TTL      time.Duration   `json:"ttl"`
	Body     json.RawMessage `json:"body"`               // the whole answer
	Accessor string          `json:"accessor,omitempty"` // of the token inside
	// TokenID is the storage id of a token that was made for this answer, and is revoked
	// if nobody unwraps it. Of a batch token nothing is stored: it ends at its time.
	TokenID string `json:"token_id,omitempty"`
	Ended   bool   `json:"ended,omitempty"` // the wrapping has ended, and TokenID is being revoked
}

// Wrap stores an answer and returns its token. parent is who asked, or nil.
func (s *Store) Wrap(ctx context.Context, a Answer, parent *token.Entry) (secret.Value, *token.Entry, error) {
	return s.wrap(ctx, a, parent)
}

// wrap is Wrap with more operations in its commit.
func (s *Store) wrap(ctx context.Context, a Answer, parent *token.Entry, extra ...storage.Op) (secret.Value, *token.Entry, error) {
	a.Created = time.Now().UTC()
	b, err := json.Marshal(a)
	if err != nil {
		return secret.Value{}, nil, fault.Wrap("wrapping.Wrap", fault.Internal, err)
	}
	tok := secret.Text(token.ServicePrefix + token.Random(32))
	e := &token.Entry{
		Path: a.Path, Created: a.Created, TTL: a.TTL,
		Expires: a.Created.Add(a.TTL), Wrapping: true,
	}
	return s.tokens.CreateAs(ctx, tok, e, token.ForWrapping(), parent, append(extra, storage.Set(Prefix+s.tokens.ID(tok), b))...)
}

func errNone() error {
	return fault.New("wrapping", fault.Invalid, "wrapping token is not valid or does not exist: it has been unwrapped, has expired, or never was. If you did not unwrap it, somebody else may have")
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
	if !e.Wrapping || !e.Lives(time.Now()) {
		return nil, storage.Entry{}, nil, errNone()
	}
	row, err := s.view.Get(ctx, Prefix+e.ID)
	if err != nil {
		return nil, storage.Entry{}, nil, err
	}
	if row.Version == 0 {
		return nil, storage.Entry{}, nil, errNone()
	}
	a, err := decode(row)
	if err != nil {
		return nil, storage.Entry{}, nil, err
	}
	if a.Ended {
		return nil, storage.Entry{}, nil, errNone()
	}
	return e, row, a, nil
}

// Lookup tells of a wrapped answer without opening it.
func (s *Store) Lookup(ctx context.Context, tok secret.Value) (*Answer, error) {
	_, _, a, err := s.find(ctx, tok)
	return a, err
}

// Unwrap gives the answer out, once.
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

// Rewrap moves the answer under a new token, in one commit: no crash loses it.
func (s *Store) Rewrap(ctx context.Context, tok secret.Value) (secret.Value, *token.Entry, *Answer, error) {
	e, row, a, err := s.find(ctx, tok)
	if err != nil {
		return secret.Value{}, nil, nil, err
	}
	fresh, made, err := s.wrap(ctx, *a, nil, storage.Remove(row.Key).If(row.Version))
	if fault.Is(err, fault.Invalid) { // another has unwrapped it meanwhile
		err = errNone()
	}
	if err != nil {
		return secret.Value{}, nil, nil, err
	}
	s.drop(ctx, e)
	return fresh, made, a, nil
}

// drop ends a token that nothing is wrapped under any more. If it fails, the
// answer must not be lost for that: the token opens nothing, and ends at its time.
func (s *Store) drop(ctx context.Context, e *token.Entry) { _ = s.tokens.Revoke(ctx, e.ID) }

func decode(row storage.Entry) (*Answer, error) {
	a := new(Answer)
	if err := json.Unmarshal(row.Value, a); err != nil {
		return nil, fault.Wrap("wrapping.decode", fault.Internal, err)
	}
	return a, nil
}

// Forget drops what was wrapped under a token that ends, and revokes the token inside. It is
// repeatable. Where somebody has unwrapped the answer there is no row, and nothing to do.
func (s *Store) Forget(ctx context.Context, tokenID string) error {
	for {
		row, err := s.view.Get(ctx, Prefix+tokenID)
		if err != nil || row.Version == 0 {
			return err
		}
		switch err = s.forget(ctx, row); {
		case !fault.Is(err, fault.Conflict): // else it was unwrapped at this moment, or ended by another server
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}

func (s *Store) forget(ctx context.Context, row storage.Entry) error {
	a, err := decode(row)
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

// end commits an answer as one that can be unwrapped no more, so that a token that is being
// revoked is given to nobody, and one that was given to somebody is not revoked.
func (s *Store) end(ctx context.Context, row storage.Entry, a *Answer) (storage.Version, error) {
	if a.Ended {
		return row.Version, nil
	}
	b, err := json.Marshal(Answer{Path: a.Path, Created: a.Created, TTL: a.TTL, TokenID: a.TokenID, Ended: true})
	if err != nil {
		return 0, fault.Wrap("wrapping.end", fault.Internal, err)
	}
	return s.view.Commit(ctx, storage.Set(row.Key, b).If(row.Version))
}
