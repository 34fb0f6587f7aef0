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

// An Entry is one line. Which fields exist for what:
//
//	request line            Time, Auth, Decision, Request; Error if it was refused at once
//	response line           the same, and Response; Error if it failed
//	failed login            no Auth, Decision allowed (logins need no token); Error on the response
//	permission denied       Auth and Decision (not allowed), Error on both lines
//	login                   Response.Auth is the new token
//	credentials issued      Response.LeaseID and Response.Data
//	wrapped answer          Response.Wrap, and Data or Auth as they are inside
//	the server's own doing  see [Action]
//
// An entry is read only while [Broker.Write] or [Broker.Render] runs.
type Entry struct {
	Kind     Kind
	Time     time.Time
	Auth     *Auth     // who; nil: nobody
	Decision *Decision // what the policies said; nil: they were not asked
	Request  *Request
	Response *Response // of a response line; may be nil
	// Error is what the client was told, in Vault's form: see [ErrorText]. It
	// stays readable, so it must hold no secret and no third party's words.
	Error string
}

// Answered returns the response line that belongs to the request line e.
func (e *Entry) Answered(at time.Time, r *Response, errText string) *Entry {
	answer := *e
	answer.Kind, answer.Time, answer.Response, answer.Error = KindResponse, at, r, errText
	return &answer
}

// An Auth is a token: who asks, or what a login gave. It renders itself once
// for each device and keeps that, so hold one per token, do not change it
// after its first use, and do not copy it.
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

// A Decision is what the policies said.
type Decision struct {
	Allowed  bool
	Granting []string // the policies that allowed it
}

// A Request is what was asked. Both lines of an operation share it.
type Request struct {
	ID         string
	ClientID   string // the entity, or what stands for it in client counts
	Operation  string // "create", "read", "update", "patch", "delete", "list", "revoke", …
	Path       string // the canonical path
	Mount      Mount
	Namespace  Namespace
	Token      secret.Value // a token that was presented and is not valid; otherwise Auth has it
	Data       Payload
	Remote     netip.AddrPort
	Headers    []Header
	WrapTTL    time.Duration
	CertSerial string // of the client's certificate

	// What a renderer made of it for the first of its lines, for the second. No two
	// goroutines write entries of one request.
	text   []byte
	textBy *renderer
}

// A Mount is where a request was routed to. Its zero value is nowhere.
type Mount struct {
	Point    string // "database/"
	Type     string // "database"
	Accessor string // "database_9f3c1a2b"
	Class    string // "secret" or "auth"
}

// A Namespace holds a request's path. The zero value is the root namespace.
type Namespace struct {
	ID   string
	Path string
}

// A Header is one that the operator chose to audit.
type Header struct {
	Name   string // lower case
	Values []string
	Hash   bool // hash the values
}

// A Response is what is about to be answered.
type Response struct {
	Auth     *Auth
	Data     Payload
	LeaseID  string
	Wrap     *Wrap
	Warnings []string
	Redirect string
}

// A Wrap says that the answer was stored for one reading.
type Wrap struct {
	Token           secret.Value
	Accessor        string
	WrappedAccessor string // of the token inside
	TTL             time.Duration
	Created         time.Time
	CreationPath    string
}
