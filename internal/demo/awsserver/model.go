package awsserver

import (
	"crypto/rand"
	"encoding/base64"
	"slices"
	"sync"
	"time"
)

// Account is the number of the account that a server begins with.
const Account = "123456789012"

// MaxKeys is how many access keys a user can have.
const MaxKeys = 2

// Options of a server. The zero value is consistent at once.
type Options struct {
	// KeyLag is how long a new access key is refused, ListLag how long lists and lookups do not show
	// what is new, DeadLag how long a deleted or inactive key still works.
	KeyLag, ListLag, DeadLag time.Duration
	// UsedLag is how late GetAccessKeyLastUsed tells of a use.
	UsedLag time.Duration
	// PageSize is how many entries a list shows at once; 0: 100.
	PageSize int
}

// A Server is an http.Handler of both APIs, whose methods are safe for concurrent use.
type Server struct {
	o Options

	mu       sync.Mutex // guards the rest
	accounts map[string]*account
	keys     map[string]*key // of users and of sessions, by id; deleted ones too
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
	permits          policy // what it may call, where it is no admin
	boundary         string
	tags             map[string]string
	inline           map[string]string
	attached, groups []string
	keys, ghosts     []*key // ghosts are deleted
	login            bool
	// What people add to users, by id.
	mfa, ssh, certs, service []string
}

type group struct {
	inline   map[string]string
	attached []string
}

type key struct {
	id, secret, token string
	user              *user // nil: of a session
	session           *session
	made              time.Time
	inactive          bool
	changed           time.Time // when it ceased to work
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
	Trusts     []string // account numbers; none: its own
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
	u := &user{account: a, name: name, path: path, id: "AIDA" + token(17), tags: map[string]string{}, inline: map[string]string{}}
	a.users[name] = u
	return u
}

func (s *Server) addKey(u *user, id, secret string) *key {
	k := &key{id: id, secret: secret, user: u}
	u.keys = append(u.keys, k)
	s.keys[id] = k
	return k
}

// live says why a key is refused now, as an error code; "" if it is not.
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

// shown reports whether what was made at some time is in lists yet.
func (s *Server) shown(made, now time.Time) bool {
	return made.IsZero() || now.Sub(made) >= s.o.ListLag
}

// token is n characters as AWS has them in ids.
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

// A Mode says how a call fails.
type Mode string

// The modes. Before and Lost are a pair: failed and not done; failed but done.
const (
	Before    Mode = "before"    // 500, without effect
	Lost      Mode = "lost"      // done, and the connection is cut
	Throttle  Mode = "throttle"  // refused because of the rate
	Malformed Mode = "malformed" // done, and the answer is cut in its middle
	Slow      Mode = "slow"      // done and answered after Wait
	Late      Mode = "late"      // the connection is cut at once; done after Wait
	Denied    Mode = "denied"    // AccessDenied, without effect
	Lie       Mode = "lie"       // without effect, and answered as if there were one
)

// A Fault fails calls of one action.
type Fault struct {
	Action string // "": any
	Mode   Mode
	Skip   int // so many calls pass first
	Times  int // 0: always
	Wait   time.Duration
}

// drop deletes a key by its place.
func (u *user) drop(i int, now time.Time) {
	k := u.keys[i]
	if !k.inactive {
		k.changed = now
	}
	k.deleted, k.gone = true, now
	u.keys, u.ghosts = slices.Delete(u.keys, i, i+1), append(u.ghosts, k)
}

func (u *user) arn() string { return "arn:aws:iam::" + u.account.id + ":user" + u.path + u.name }
