package audit

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// Kind says which of the two lines of an operation an entry is.
type Kind string

// The kinds of entries.
const (
	KindRequest  Kind = "request"  // before the effect
	KindResponse Kind = "response" // before the answer
)

// An Entry is one line. Its fields:
//
//	request line            Time, Auth, Decision, Request; Error if it was refused at once
//	response line           the same, and Response; Error if it failed
//	failed login            no Auth, Decision allowed (logins need no token); Error on the answer
//	permission denied       Auth and Decision (not allowed), Error on both lines
//	login                   Response.Auth is the new token
//	credentials issued      Response.LeaseID and Response.Data
//	wrapped answer          Response.Wrap, and Data or Auth as they are inside
//	action of the server    see [Action]
//
// An entry is read only while [Broker.Write] or [Broker.Render] runs.
type Entry struct {
	Kind     Kind
	Time     time.Time
	Auth     *Auth     // the caller; nil: none
	Decision *Decision // of the policies; nil: they were not evaluated
	Request  *Request
	Response *Response // of a response line; may be nil
	// Error is the text for the client; see [ErrorText]. It is written in clear, so it must not
	// contain a secret or a text of a third party.
	Error string
}

// Answered returns the response line that belongs to the request line e.
func (e *Entry) Answered(at time.Time, r *Response, errText string) *Entry {
	answer := *e
	answer.Kind, answer.Time, answer.Response, answer.Error = KindResponse, at, r, errText
	return &answer
}

// An Auth is a token: the caller's, or the result of a login. It is rendered once for each device,
// and caches that, so keep one per token, do not change it after its first use, and do not copy
// it.
type Auth struct {
	Token            secret.Value
	Accessor         string
	DisplayName      string
	Policies         []string // all
	TokenPolicies    []string
	IdentityPolicies []string
	Metadata         map[string]string
	EntityID         string
	TokenType        string // "service", "batch"; empty: "default"
	TTL              time.Duration
	Issued           time.Time
	NumUses          int

	fragments atomic.Pointer[fragment]
}

// A fragment is a token that was rendered for one device. The fragments of a token are a list,
// because servers have only one or two devices.
type fragment struct {
	by      *Hasher // of the device
	auth    []byte  // members of "auth" that do not depend on the request
	request []byte  // `,"client_token":…,"client_token_accessor":…`
	next    *fragment
}

// A Decision is the result of evaluating the policies.
type Decision struct {
	Allowed  bool
	Granting []string // the policies that allowed it
}

// A Request describes a request. Both lines of an operation share it.
type Request struct {
	ID         string
	ClientID   string // the entity, or its replacement in client counts
	Operation  string // "create", "read", "update", "patch", "delete", "list", "revoke", …
	Path       string // the canonical path
	Mount      Mount
	Namespace  Namespace
	Token      secret.Value // an invalid token; Auth has a valid one
	Data       Payload
	Remote     netip.AddrPort
	Headers    []Header
	WrapTTL    time.Duration
	CertSerial string // of the client's certificate

	// The rendered request, which the first line caches for the second. Only one goroutine writes
	// the entries of a request.
	text   []byte
	textBy *Hasher // of the device for which text was rendered
}

// A Mount is where a request was routed to. Its zero value is nowhere.
type Mount struct {
	Point    string // "database/"
	Type     string // "database"
	Accessor string // "database_9f3c1a2b"
	Class    string // "secret" or "auth"
}

// A Namespace is that of a request's path. The zero value is the root namespace.
type Namespace struct {
	ID   string
	Path string
}

// A Header is a request header that the operator chose to audit.
type Header struct {
	Name   string // lower case
	Values []string
	Hash   bool // hash the values
}

// A Response describes the answer.
type Response struct {
	Auth     *Auth
	Data     Payload
	LeaseID  string
	Wrap     *Wrap
	Warnings []string
	Redirect string
}

// A Wrap describes a wrapped answer.
type Wrap struct {
	Token           secret.Value
	Accessor        string
	WrappedAccessor string // of the token inside
	TTL             time.Duration
	Created         time.Time
	CreationPath    string
}
