package awsserver

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"sync"
	"time"
)

// Account is the number of the first account of a server.
const Account = "123456789012"

// MaxKeys is the maximum of access keys of a user.
const MaxKeys = 2

// Options of a server. The zero value is immediately consistent.
type Options struct {
	// KeyLag is how long a new access key is refused, ListLag how long lists and lookups do not
	// show changes, and DeadLag how long a deleted or inactive key still works.
	KeyLag, ListLag, DeadLag time.Duration
	// UsedLag delays GetAccessKeyLastUsed.
	UsedLag time.Duration
	// PageSize is the number of entries of a page; 100 by default.
	PageSize int
}

// A Server is an http.Handler of both APIs. Its methods are safe for concurrent use.
type Server struct {
	o Options

	mu       sync.Mutex // guards the rest
	accounts map[string]*account
	keys     map[string]*key // of users and sessions, by ID, including deleted ones
	faults   []*Fault
	calls    map[string]int // by action
	policies map[string]bool
}

type account struct {
	id     string
	users  map[string]*user
	groups map[string]*group
	roles  map[string]*Role
}

type user struct {
	account          *account
	name, path, id   string
	made             time.Time
	admin            bool
	permits          policy // allowed calls, if it is no admin
	boundary         string
	tags             map[string]string
	inline           map[string]string
	attached, groups []string
	keys, ghosts     []*key // ghosts are deleted keys
	login            bool
	// IDs of what people add to users.
	mfa, ssh, certs, service []string
}

type group struct {
	inline   map[string]string
	attached []string
}

type key struct {
	id, secret, token string
	user              *user // nil for a session's key
	session           *session
	made              time.Time
	inactive          bool
	changed           time.Time // when it was deactivated
	deleted           bool
	gone              time.Time // when it was deleted
	used              []use
}

type use struct {
	at      time.Time
	service string
}

type session struct {
	account *account
	arn     string
	admin   bool
	expires time.Time
	policy  string
	arns    []string
}

// A Role can be assumed by users of the accounts that it trusts.
type Role struct {
	Name       string
	Trusts     []string // account numbers; by default its own
	ExternalID string
	Admin      bool // may call IAM
	MaxSession time.Duration
}

func (s *Server) account(id string) *account {
	a := s.accounts[id]
	if a == nil {
		a = &account{id: id, users: map[string]*user{}, groups: map[string]*group{}, roles: map[string]*Role{}}
		s.accounts[id] = a
	}
	return a
}

func (s *Server) addUser(a *account, name, path string) *user {
	u := &user{account: a, name: name, path: path, id: "AIDA" + token(17), tags: map[string]string{},
		inline: map[string]string{}}
	a.users[name] = u
	return u
}

func (s *Server) addKey(u *user, id, secret string) *key {
	k := &key{id: id, secret: secret, user: u}
	u.keys = append(u.keys, k)
	s.keys[id] = k
	return k
}

// live returns the error code if a key is refused now, or "".
func (s *Server) live(k *key, now time.Time) string {
	switch {
	case k.session != nil && now.After(k.session.expires):
		return "ExpiredToken"
	case (k.deleted || k.inactive) && now.Sub(k.changed) >= s.o.DeadLag:
		return "InvalidClientTokenId"
	case !k.made.IsZero() && now.Sub(k.made) < s.o.KeyLag:
		return "InvalidClientTokenId"
	}
	return ""
}

// shown reports whether lists show an object that was created at a given time.
func (s *Server) shown(made, now time.Time) bool {
	return made.IsZero() || now.Sub(made) >= s.o.ListLag
}

// token returns n random characters like those in AWS's IDs.
func token(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	for i := range b {
		b[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[b[i]%32]
	}
	return string(b)
}

func newKey(prefix string) (id, secret string) {
	b := make([]byte, 30)
	_, _ = rand.Read(b)
	return prefix + token(16), base64.StdEncoding.EncodeToString(b)
}

// A Mode is a way in which a call fails.
type Mode string

// The modes. Before and Lost are a pair: failed without effect, and failed with effect.
const (
	Before    Mode = "before"    // status 500, no effect
	Lost      Mode = "lost"      // takes effect, and the connection is cut
	Throttle  Mode = "throttle"  // refused by throttling
	Malformed Mode = "malformed" // takes effect, and the answer is incomplete
	Slow      Mode = "slow"      // takes effect and answers after Wait
	Late      Mode = "late"      // the connection is cut immediately; takes effect after Wait
	Denied    Mode = "denied"    // AccessDenied, no effect
	Lie       Mode = "lie"       // no effect, but reports success
)

// A Fault makes calls of one action fail.
type Fault struct {
	Action string // any action by default
	Mode   Mode
	Skip   int // number of calls before the fault
	Times  int // 0 means always
	Wait   time.Duration
}

// drop deletes the key at an index.
func (u *user) drop(i int, now time.Time) {
	k := u.keys[i]
	if !k.inactive {
		k.changed = now
	}
	k.deleted, k.gone = true, now
	u.keys, u.ghosts = slices.Delete(u.keys, i, i+1), append(u.ghosts, k)
}

func (u *user) arn() string { return "arn:aws:iam::" + u.account.id + ":user" + u.path + u.name }
