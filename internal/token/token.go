// Package token keeps tokens: who may call, with which policies, until when.
//
//	token/<id>                 the record; id is the HMAC of the token, in hex
//	token-accessor/<accessor>  the id
//	token-child/<parent>/<id>  an edge of the tree
//
// A token itself is never stored. A batch token is stored nowhere: it is its
// record, sealed.
//
// Revoking: first the record is committed as revoking, from which moment the
// token and what is made with it are refused; then its children are marked alike,
// before the revoke is answered. Each that is marked has a due item of its own, so
// that ending its leases and taking it out of the store goes on after a crash.
// Whatever is created with a token – a child, a lease – asserts its record's
// version, so nothing slips in behind the walk. That children are to live on as
// orphans is recorded with the mark: whoever resumes it spares them, too.
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
	Uses        int               `json:"uses,omitempty"` // left; 0: without limit; -1: the last was taken
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
	// Chosen is the token's text where its creator chooses it, so that there may be one already; never stored.
	Chosen secret.Value `json:"-"`
}

// State is how a token stands, besides its terms.
type State struct {
	Revoking bool      `json:"revoking,omitempty"`
	Spare    bool      `json:"spare,omitempty"`  // revoking, but its children live on as orphans
	UsedUp   time.Time `json:"used_up,omitzero"` // when its last use was taken

	size int // of the record that it was read from
}

// Policies are the names of the policies that the token holds, sorted. Nobody changes them.
func (e *Entry) Policies() []string { return e.policies }

// Root reports whether the token holds the root policy.
func (e *Entry) Root() bool { return slices.Contains(e.policies, rootPolicy) }

// Large reports whether the token's record is too large to be held in memory
// for the next request.
func (e *Entry) Large() bool { return e.size > maxHeld }

// Orphan reports whether no parent's death takes the token along.
func (e *Entry) Orphan() bool { return e.Parent == "" }

// Usable says why the token cannot be used at now from remote, or "".
func (e *Entry) Usable(now time.Time, remote netip.Addr) string {
	switch {
	case e.Revoking:
		return "the token is revoked"
	case !e.Expires.IsZero() && !now.Before(e.Expires):
		return "the token has expired"
	case e.Uses < 0:
		return "the token has been used up"
	}
	if len(e.BoundCIDRs) > 0 && !slices.ContainsFunc(e.BoundCIDRs, func(p netip.Prefix) bool { return p.Contains(remote.Unmap()) }) {
		return "the token may not be used from this address"
	}
	return ""
}

// Lives reports whether a token has neither ended nor is being revoked.
func (e *Entry) Lives(now time.Time) bool {
	return !e.Revoking && (e.Expires.IsZero() || now.Before(e.Expires))
}

// Expect is the assertion that the token is as it was read: what is made with
// it commits this along. A batch token has none of its own.
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

// Bounds of the decoded tokens that are kept; past one all are dropped. At
// some 500 bytes each the two meet. A token may carry up to a megabyte of metadata,
// and one that is larger than maxHeld is read anew each time.
const (
	maxCached = 1 << 16
	maxBytes  = 32 << 20
	maxHeld   = 16 << 10
)
