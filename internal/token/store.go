package token

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Config of a [Store].
type Config struct {
	Barrier *barrier.Barrier
	// Due returns the operations that move the due item of a token.
	Due func(id string, from, to time.Time) []storage.Op
	// EndLeases makes all leases of the token unusable and due. It is repeatable, and returns when
	// that is durable.
	EndLeases func(ctx context.Context, id string) error
	// Forget removes everything else that belongs to the token, such as its cubbyhole.
	Forget func(ctx context.Context, id string) error
}

// A Store stores tokens. Safe for concurrent use.
type Store struct {
	cfg   Config
	view  *barrier.View // absolute keys
	cache cache
}

// NewStore returns a store. Its cache is used only while Follow runs.
func NewStore(cfg Config) *Store {
	return &Store{cfg: cfg, view: cfg.Barrier.View("")}
}

// ID is the storage ID of a token: an HMAC with a key of the barrier.
func (s *Store) ID(tok secret.Value) string {
	h := s.cfg.Barrier.HMAC("token", tok.Reveal())
	return hex.EncodeToString(h[:20]) // 160 bits are enough against collisions
}

// Lookup returns the record of a token, even if it is not usable. An unknown one is Denied, as in
// Vault.
func (s *Store) Lookup(ctx context.Context, tok secret.Value) (*Entry, error) {
	text := tok.RevealString()
	if strings.HasPrefix(text, BatchPrefix) {
		return s.openBatch(ctx, tok)
	}
	if text == "" || len(text) > 512 {
		return nil, errBad()
	}
	return s.ByID(ctx, s.ID(tok))
}

func errBad() error {
	return fault.New("token.Lookup", fault.Denied,
		"permission denied: the token is not known, has expired or was revoked; log in again")
}

// ByID returns a record by its storage ID. An unknown one is Denied.
func (s *Store) ByID(ctx context.Context, id string) (*Entry, error) {
	if e := s.cache.get(id); e != nil {
		return e, nil
	}
	gen := s.cache.generation()
	e, err := s.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	s.cache.put(e, gen)
	return e, nil
}

// ByAccessor returns a record by its accessor. An unknown one is Invalid.
func (s *Store) ByAccessor(ctx context.Context, accessor string) (*Entry, error) {
	bad := fault.New("token.ByAccessor", fault.Invalid,
		"no token has this accessor; list auth/token/accessors for the valid ones")
	if accessor == "" || len(accessor) > 64 || strings.Contains(accessor, "/") {
		return nil, bad
	}
	row, err := s.view.Get(ctx, AccessorPrefix+accessor)
	if err != nil {
		return nil, err
	}
	if row.Version == 0 {
		return nil, bad
	}
	e, err := s.ByID(ctx, string(row.Value))
	if fault.Is(err, fault.Denied) {
		return nil, bad
	}
	return e, err
}

// MaxAccessors is the maximum number of accessors on a page.
const MaxAccessors = 100_000

// Accessors lists the accessors after one, in order; limit 0 means [MaxAccessors].
func (s *Store) Accessors(ctx context.Context, after string, limit int) ([]string, error) {
	if limit <= 0 {
		limit = MaxAccessors
	}
	limit = min(limit, MaxAccessors)
	from := AccessorPrefix
	if after != "" {
		from += after + "\x00"
	}
	var out []string
	for row, err := range s.view.Scan(ctx, from, storage.PrefixEnd(AccessorPrefix)) {
		if err != nil {
			return nil, err
		}
		if out = append(out, strings.TrimPrefix(row.Key, AccessorPrefix)); len(out) == limit {
			break
		}
	}
	return out, nil
}

// Create stores a new token with the policies of g and returns it. parent is the token that
// creates it, or nil for logins; the commit asserts that it is valid, even if the new token is an
// orphan. The caller sets e.Parent or leaves it empty. extra is added to the commit.
func (s *Store) Create(
	ctx context.Context, e *Entry, g Grant, parent *Entry, extra ...storage.Op,
) (secret.Value, *Entry, error) {
	e.Created = e.Created.UTC().Round(0)
	if e.Batch {
		return s.sealBatch(ctx, e, g, parent)
	}
	tok := e.Chosen
	if tok.Empty() {
		tok = secret.Text(ServicePrefix + Random(32))
	}
	return s.CreateAs(ctx, tok, e, g, parent, extra...)
}

// CreateAs is Create with a random token of the caller's or, if it is e.Chosen, one that a client
// chose.
func (s *Store) CreateAs(
	ctx context.Context, tok secret.Value, e *Entry, g Grant, parent *Entry, extra ...storage.Op,
) (secret.Value, *Entry, error) {
	if parent != nil && !parent.Valid(time.Now()) { // an unchanged record may still have expired
		return secret.Value{}, nil, errBad()
	}
	stored, ops, err := s.Rows(tok, e, g)
	if err != nil {
		return secret.Value{}, nil, err
	}
	stored.Version, err = s.add(ctx, append(ops, extra...), parent)
	if err != nil {
		return secret.Value{}, nil, err
	}
	return tok, stored, nil
}

// Rows returns the record of a new token, and the operations that store it with its indexes, for
// the caller's batch.
func (s *Store) Rows(tok secret.Value, e *Entry, g Grant) (*Entry, []storage.Op, error) {
	stored := *e
	stored.policies = g.policies
	stored.Expires = stored.Expires.Truncate(time.Millisecond) // as its due item
	stored.ID = s.ID(tok)
	if stored.Accessor == "" {
		stored.Accessor = Random(24)
	}
	b, err := stored.encode()
	if err != nil {
		return nil, nil, err
	}
	// A token of 140 random bits or more does not exist yet. Looking for it in every table would
	// take a fifth of the request's time.
	row := storage.Set(Prefix+stored.ID, b)
	if !e.Chosen.Empty() {
		row = row.If(0)
	}
	ops := []storage.Op{row, storage.Set(AccessorPrefix+stored.Accessor, []byte(stored.ID))}
	if stored.Parent != "" {
		ops = append(ops, storage.Set(ChildPrefix+stored.Parent+"/"+stored.ID, nil))
	}
	return &stored, append(ops, s.cfg.Due(stored.ID, time.Time{}, stored.Expires)...), nil
}

// add commits a new token's rows, asserting that its parent is valid. If the parent was only
// renewed or used meanwhile, it retries.
func (s *Store) add(ctx context.Context, ops []storage.Op, parent *Entry) (storage.Version, error) {
	var guard []storage.Op
	switch {
	case parent != nil && parent.Batch: // it has no record, so its parent's is asserted
		var err error
		if guard, err = s.Guard(ctx, parent); err != nil {
			return 0, err
		}
	case parent != nil:
		guard = parent.Expect()
	}
	for range 16 {
		v, err := s.view.Commit(ctx, slices.Concat(ops, guard)...)
		if !fault.Is(err, fault.Conflict) {
			return v, err
		}
		before := guard
		if guard = nil; parent != nil {
			if guard, err = s.Guard(ctx, parent); err != nil {
				return 0, err
			}
		}
		if slices.EqualFunc(before, guard, func(a, b storage.Op) bool { return a.Want == b.Want }) {
			return 0, fault.New("token.Create", fault.Invalid,
				"there is such a token already, or what it is made from has changed; choose another, or try again")
		}
	}
	return 0, fault.New("token.Create", fault.Unavailable,
		"the creating token is being changed by many requests at once; try again")
}

// Update lets change edit the record of a token, and stores it. If the record was changed
// meanwhile, Update calls change again with the new one. It returns an error of change.
func (s *Store) Update(ctx context.Context, id string, change func(*Entry) error) (*Entry, error) {
	return s.update(ctx, id, change)
}

// update is Update with extra operations in its commit.
func (s *Store) update(
	ctx context.Context, id string, change func(*Entry) error, extra ...storage.Op,
) (*Entry, error) {
	for range 16 {
		row, err := s.view.Get(ctx, Prefix+id)
		if err != nil {
			return nil, err
		}
		if row.Version == 0 {
			return nil, errBad()
		}
		old, err := decode(id, row.Version, row.Value)
		if err != nil {
			return nil, err
		}
		e := *old
		if err := change(&e); err != nil {
			return nil, err
		}
		b, err := e.encode()
		if err != nil {
			return nil, err
		}
		ops := append([]storage.Op{storage.Set(Prefix+id, b).If(row.Version)}, extra...)
		if from, to := dueAt(old), dueAt(&e); !from.Equal(to) {
			ops = append(ops, s.cfg.Due(id, from, to)...)
		}
		v, err := s.view.Commit(ctx, ops...)
		s.cache.drop(id)
		if fault.Is(err, fault.Conflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		e.Version = v
		return &e, nil
	}
	return nil, fault.New("token.Update", fault.Unavailable,
		"the token is being changed by many requests at once; try again")
}

// lastUseTimeout is how long the request with the last use of a token may take. The request
// revokes the token; if the server crashes, the due loop does it at this time.
const lastUseTimeout = 10 * time.Minute

// dueAt is when a token's item is due: when it expires, soon after its last use, or, if it is
// being revoked, since its creation.
func dueAt(e *Entry) time.Time {
	if e.Revoking {
		return e.Created
	}
	if at := e.UsedUp.Add(lastUseTimeout); !e.UsedUp.IsZero() && (e.Expires.IsZero() || at.Before(e.Expires)) {
		return at
	}
	return e.Expires
}

// Use counts one use of a token whose number of uses is limited.
func (s *Store) Use(ctx context.Context, e *Entry) (*Entry, error) {
	return s.Update(ctx, e.ID, func(e *Entry) error {
		switch {
		case e.Uses < 0 || e.Revoking:
			return errBad()
		case e.Uses == 1:
			e.Uses, e.UsedUp = -1, time.Now().UTC().Truncate(time.Millisecond)
		case e.Uses > 1:
			e.Uses--
		}
		return nil
	})
}

const batchPurpose = "batch-token"

// sealBatch creates a batch token. Because there is no commit that could assert the parent, it
// reads the parent again, so that a parent that was just revoked creates no token.
func (s *Store) sealBatch(ctx context.Context, e *Entry, g Grant, parent *Entry) (secret.Value, *Entry, error) {
	out := *e
	out.policies = g.policies
	b, err := out.encode()
	if err != nil {
		return secret.Value{}, nil, err
	}
	if parent != nil && parent.Batch {
		return secret.Value{}, nil, fault.New("token.Create", fault.Invalid,
			"a batch token cannot create tokens; use a service token")
	}
	if parent != nil {
		if _, err := s.Guard(ctx, parent); err != nil {
			return secret.Value{}, nil, err
		}
	}
	sealed, err := s.cfg.Barrier.SealBytes(batchPurpose, b)
	if err != nil {
		return secret.Value{}, nil, err
	}
	tok := secret.Text(BatchPrefix + base64.RawURLEncoding.EncodeToString(sealed))
	out.ID = s.ID(tok)
	return tok, &out, nil
}

// openBatch decrypts a batch token, and checks that its parent is still valid.
func (s *Store) openBatch(ctx context.Context, tok secret.Value) (*Entry, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(tok.RevealString(), BatchPrefix))
	if err != nil {
		return nil, errBad()
	}
	b, err := s.cfg.Barrier.OpenBytes(batchPurpose, sealed)
	if fault.Is(err, fault.Sealed) {
		return nil, err
	}
	if err != nil {
		return nil, errBad()
	}
	e, err := decode(s.ID(tok), 0, b)
	if err != nil {
		return nil, errBad()
	}
	if e.Parent != "" {
		p, err := s.ByID(ctx, e.Parent)
		if err != nil {
			return nil, err
		}
		if !p.Valid(time.Now()) {
			return nil, errBad()
		}
	}
	return e, nil
}

// Guard returns assertions for commits that are made with the token e: that its record, or a batch
// token's parent's record, has not changed. It reads the record again, because a change since e
// was read does not matter if the token is still valid.
func (s *Store) Guard(ctx context.Context, e *Entry) ([]storage.Op, error) {
	id := e.Owner()
	if e.Batch && !e.Valid(time.Now()) {
		return nil, errBad()
	}
	if e.Batch && e.Parent == "" {
		return nil, nil
	}
	current, err := s.stored(ctx, id)
	if err != nil {
		return nil, err
	}
	if !current.Valid(time.Now()) {
		return nil, errBad()
	}
	return current.Expect(), nil
}

// stored reads a record without the cache. An unknown one is Denied.
func (s *Store) stored(ctx context.Context, id string) (*Entry, error) {
	row, err := s.view.Get(ctx, Prefix+id)
	if err != nil {
		return nil, err
	}
	if row.Version == 0 {
		return nil, errBad()
	}
	return decode(id, row.Version, row.Value)
}

// Owner is the ID by which leases of e are indexed. Those of a batch token belong to its parent,
// if it has one.
func (e *Entry) Owner() string {
	if e.Batch && e.Parent != "" {
		return e.Parent
	}
	return e.ID
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// Random returns n random letters and digits, with 5.95 bits each.
func Random(n int) string {
	out := make([]byte, 0, n)
	var buf [64]byte
	for len(out) < n {
		_, _ = rand.Read(buf[:]) // never fails
		for _, b := range buf {
			if b < 4*byte(len(alphabet)) && len(out) < n {
				out = append(out, alphabet[b%byte(len(alphabet))])
			}
		}
	}
	return string(out)
}
