package route

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Op is what a request does to a path.
type Op string

// The operations. A write is Create or Update, which policies tell apart by
// whether the thing exists; routes say [Write] for both.
const (
	Read   Op = "read"
	Write  Op = "update" // unless Exists reports that it is a create
	Create Op = "create"
	Delete Op = "delete"
	List   Op = "list"
	Patch  Op = "patch"
	Help   Op = "help" // of the path, whatever it serves
)

// A Caller is who makes the request: the token, decoded.
type Caller struct {
	ID          string // the token's storage id (an HMAC), never the token
	Accessor    string
	DisplayName string
	EntityID    string
	Policies    []string
	Meta        map[string]string
	Batch       bool
	Root        bool // holds the root policy
	Orphan      bool
	Expires     time.Time // zero: never
}

// A Mount says where the request was routed to.
type Mount struct {
	Path       string // "auth/token/", ends in a slash
	Type       string
	UUID       string
	Accessor   string
	Class      string // "secret" or "auth"
	DefaultTTL time.Duration
	MaxTTL     time.Duration
}

// A Request is one operation. The engine that serves it may read all of it, and shape the answer
// with the methods. It must not be used after the handler has returned.
type Request struct {
	ID      string
	Op      Op
	Path    Path   // the whole canonical path, which may contain a token; use Shown to show it
	Rest    string // Path below Mount.Path
	Folder  bool   // sent with a slash at the end, which Path does not have, although it is not a list
	Mount   Mount
	Caller  *Caller
	Token   secret.Value // as the client sent it; only core and auth/token read it
	Remote  netip.AddrPort
	Accept  string // the header Accept, as the client sent it
	Body    []byte // a JSON object that wire.Check accepted, or empty
	Query   url.Values
	Header  map[string][]string // as the client sent them; only core reads them, for the audit log
	WrapTTL time.Duration
	Sudo    bool      // the caller's policies grant sudo on the path, even if the route does not need it
	Time    time.Time // when it arrived

	params []param
	shown  string // result of [Request.Shown], after a route was found
	secret param  // the part of the path that is a secret; without a name: none
	reply  Reply
}

type param struct{ name, value string }

// Param is the part of the path that the route's pattern names.
func (r *Request) Param(name string) string {
	for _, p := range r.params {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// Auth is the "auth" object of an answer: a token for the client.
type Auth struct {
	ClientToken      secret.Value      `json:"client_token"`
	Accessor         string            `json:"accessor"`
	Policies         []string          `json:"policies"`
	TokenPolicies    []string          `json:"token_policies"`
	IdentityPolicies []string          `json:"identity_policies,omitempty"`
	Metadata         map[string]string `json:"metadata"`
	LeaseDuration    time.Duration     `json:"lease_duration"`
	Renewable        bool              `json:"renewable"`
	EntityID         string            `json:"entity_id"`
	TokenType        string            `json:"token_type"`
	Orphan           bool              `json:"orphan"`
	MFARequirement   *struct{}         `json:"mfa_requirement"`
	NumUses          int               `json:"num_uses"`

	// TokenID is the storage ID of a token that this request created, and that is revoked if the
	// answer cannot be audited; empty for a renewal.
	TokenID string `json:"-"`
}

// Shape says where the data is in the answer.
type Shape uint8

// The shapes of an answer.
const (
	Enveloped Shape = iota // {"request_id": …, "data": {…}}
	Merged                 // also with each member of data at the top level
	Bare                   // data is the whole answer
	Binary                 // data is bytes, with ContentType
)

// Reply says how the answer differs from a plain 200 with data.
type Reply struct {
	Status        int // 0: 200 with data, 204 without
	Warnings      []string
	LeaseDuration time.Duration // of an answer without a lease
	Auth          *Auth
	Shape         Shape
	ContentType   string
	Unwrapped     bool // the data is a whole answer, stored when it was wrapped
	NoAuditData   bool
	Audited       any    // what the audit log shows in place of the data; nil: the data
	Stream        Stream // instead of data; nil: there is none
}

// A Stream sends an answer in pieces while the client listens. It returns when ctx ends, or
// sending fails because the client has hung up.
type Stream func(ctx context.Context, send func(piece []byte) error) error

// Reply returns the properties of the answer that the handler has set.
func (r *Request) Reply() *Reply { return &r.reply }

// Limits of an answer's warnings, because every byte of a request may cause one.
const (
	maxWarnings = 50
	maxWarning  = 2000 // bytes of one
)

// Warn adds a line to the answer's warnings.
func (r *Request) Warn(format string, args ...any) {
	switch n := len(r.reply.Warnings); {
	case n < maxWarnings:
		r.reply.Warnings = append(r.reply.Warnings, fault.Clip(fmt.Sprintf(format, args...), maxWarning))
	case n == maxWarnings:
		r.reply.Warnings = append(r.reply.Warnings, "there were further warnings, which are left out")
	}
}

// SetStatus sets another status than 200 or 204, and keeps the data. For example, a deleted
// version in KV v2 is a 404 with its metadata.
func (r *Request) SetStatus(code int) { r.reply.Status = code }

// SetLeaseDuration sets lease_duration of an answer without a lease.
func (r *Request) SetLeaseDuration(d time.Duration) { r.reply.LeaseDuration = d }

// SetAuth puts a token into the answer.
func (r *Request) SetAuth(a *Auth) { r.reply.Auth = a }

// SetShape sets where the data is in the answer.
func (r *Request) SetShape(s Shape) { r.reply.Shape = s }
