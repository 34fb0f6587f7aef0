// Package token stores tokens: who may call, with which policies, until when.
//
//	token/<id>                 the record; id is the HMAC of the token, in hex
//	token-accessor/<accessor>  the id
//	token-child/<parent>/<id>  an edge of the tree
//
// A token itself is never stored. A batch token is not stored at all: it is an encrypted record.
//
// Revoking: first the record is marked as revoking, from which moment the token is refused; then
// its children are marked, before the revocation is answered. Each marked token has a due item, so
// that its leases are ended, and its record removed, even after a crash. Whatever is created with
// a token, such as a child or a lease, asserts the version of its record, so nothing can be added
// during the walk. The mark also says whether the children become orphans, so that a resumed
// revocation spares them.
package token

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// Prefixes of the keys.
const (
	Prefix         = "token/"
	AccessorPrefix = "token-accessor/"
	ChildPrefix    = "token-child/"
)

// Prefixes of the tokens themselves, as Vault's clients know them.
const (
	ServicePrefix = "hvs."
	BatchPrefix   = "hvb."
)

// DueKind is the kind of a token's due item.
const DueKind = "token"

// An Entry is the record of a token. It is immutable once it is stored.
type Entry struct {
	ID          string            `json:"-"`
	Version     storage.Version   `json:"-"` // 0 for a batch token
	Namespace   string            `json:"namespace,omitempty"`
	Accessor    string            `json:"accessor,omitempty"`
	Parent      string            `json:"parent,omitempty"` // id; "": an orphan
	Path        string            `json:"path"`             // of the request that made it
	DisplayName string            `json:"display_name,omitempty"`
	Meta        map[string]string `json:"meta,omitempty"`
	Uses        int               `json:"uses,omitempty"` // left; 0: no limit; -1: all are used
	Created     time.Time         `json:"created"`
	TTL         time.Duration     `json:"ttl,omitempty"` // at creation
	Expires     time.Time         `json:"expires,omitzero"`
	Renewed     time.Time         `json:"renewed,omitzero"`
	Period      time.Duration     `json:"period,omitempty"`
	ExplicitMax time.Duration     `json:"explicit_max,omitempty"`
	EntityID    string            `json:"entity_id,omitempty"`
	Role        string            `json:"role,omitempty"`
	Mount       string            `json:"mount,omitempty"` // uuid of the login method's mount
	BoundCIDRs  []netip.Prefix    `json:"bound_cidrs,omitempty"`
	Batch       bool              `json:"batch,omitempty"`
	Renewable   bool              `json:"renewable,omitempty"`
	Wrapping    bool              `json:"wrapping,omitempty"` // may only unwrap
	State
	policies []string // of the [Grant] that it was made with
	// Chosen is the token's text if a client chose it, so that it may already exist; never stored.
	Chosen secret.Value `json:"-"`
}

// State is the part of a token's record that changes while it is used or revoked.
type State struct {
	Revoking      bool      `json:"revoking,omitempty"`
	SpareChildren bool      `json:"spare,omitempty"`  // revoking, but its children live on as orphans
	UsedUp        time.Time `json:"used_up,omitzero"` // when its last use was taken

	size int // of the record that it was read from
}

// Policies returns the sorted names of the token's policies. Callers must not change the slice.
func (e *Entry) Policies() []string { return e.policies }

// Root reports whether the token has the root policy.
func (e *Entry) Root() bool { return slices.Contains(e.policies, rootPolicy) }

// Large reports whether the token's record is too large to be cached.
func (e *Entry) Large() bool { return e.size > maxCachedRecord }

// Orphan reports whether the token has no parent.
func (e *Entry) Orphan() bool { return e.Parent == "" }

// Usable returns why the token cannot be used at now from remote, or "".
func (e *Entry) Usable(now time.Time, remote netip.Addr) string {
	switch {
	case e.Revoking:
		return "the token is revoked"
	case !e.Expires.IsZero() && !now.Before(e.Expires):
		return "the token has expired"
	case e.Uses < 0:
		return "the token has been used up"
	}
	if len(e.BoundCIDRs) > 0 &&
		!slices.ContainsFunc(e.BoundCIDRs, func(p netip.Prefix) bool { return p.Contains(remote.Unmap()) }) {
		return "the token may not be used from this address"
	}
	return ""
}

// Valid reports whether a token has neither expired nor is being revoked.
func (e *Entry) Valid(now time.Time) bool {
	return !e.Revoking && (e.Expires.IsZero() || now.Before(e.Expires))
}

// Expect returns the assertion that the token has not changed since it was read, for commits that
// are made with it. A batch token has none.
func (e *Entry) Expect() []storage.Op {
	if e.Version == 0 {
		return nil
	}
	return []storage.Op{storage.Expect(Prefix+e.ID, e.Version)}
}

// record is the form in which an entry is stored.
type record struct {
	*Entry
	Policies []string `json:"policies"`
}

func decode(id string, v storage.Version, b []byte) (*Entry, error) {
	e := &Entry{ID: id, Version: v, State: State{size: len(b)}}
	r := record{Entry: e}
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fault.Wrap("token.decode", fault.Internal, err)
	}
	e.policies = r.Policies
	return e, nil
}

// Limits of the cache; above either, all tokens are dropped. With about 500 bytes per token, both
// are reached at the same time. A token may have up to a megabyte of metadata; one that is larger
// than maxCachedRecord is not cached.
const (
	maxCached       = 1 << 16
	maxBytes        = 32 << 20
	maxCachedRecord = 16 << 10
)
