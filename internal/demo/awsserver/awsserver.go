// Package awsserver is a server of those calls of the AWS IAM and STS query APIs that Keyturn
// makes, for tests and demonstrations without AWS. It behaves as AWS documents: it checks
// signatures (Signature Version 4) and permissions, refuses calls in the same states, answers in
// AWS's XML, and is eventually consistent as far as [Options] say. On command its calls fail,
// before or after their effect, hang, or take effect late.
//
// Sources: the IAM and STS API references, and "Signature Version 4 signing process" in AWS's
// general reference. A test against this server is no test against AWS.
package awsserver

import (
	"slices"
	"time"
)

// New returns a server with one account and no users.
func New(o Options) *Server {
	if o.PageSize == 0 {
		o.PageSize = 100
	}
	s := &Server{o: o, accounts: map[string]*account{}, keys: map[string]*key{}, calls: map[string]int{},
		policies: map[string]bool{}}
	s.account(Account)
	return s
}

// AddAdmin creates a user that may make all calls, with an access key that works immediately.
func (s *Server) AddAdmin(accountID, name, keyID, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.addUser(s.account(accountID), name, "/")
	u.admin = true
	s.addKey(u, keyID, secret)
}

// AddUser creates a user without keys, as a person might.
func (s *Server) AddUser(accountID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addUser(s.account(accountID), name, "/")
}

// AddKey adds an access key that works immediately. It returns ID and secret.
func (s *Server) AddKey(accountID, name string) (id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, secret = newKey("AKIA")
	s.addKey(s.account(accountID).users[name], id, secret)
	return id, secret
}

// MakeKey adds a new access key, as a person might.
func (s *Server) MakeKey(accountID, name string) (id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, secret = newKey("AKIA")
	s.addKey(s.account(accountID).users[name], id, secret).made = time.Now()
	return id, secret
}

// AddRole creates or replaces a role.
func (s *Server) AddRole(accountID string, r Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(accountID).roles[r.Name] = &r
}

// AddGroup creates a group.
func (s *Server) AddGroup(accountID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(accountID).groups[name] = &group{inline: map[string]string{}}
}

// GiveGroup sets an inline policy of a group, and attaches managed ones.
func (s *Server) GiveGroup(accountID, name, policy, document string, arns ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.account(accountID).groups[name]
	g.inline[policy] = document
	g.attached = append(g.attached, arns...)
}

// DropUser removes a user with everything that it has, as a person might.
func (s *Server) DropUser(accountID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.account(accountID).users[name]; u != nil {
		for _, k := range u.keys {
			k.deleted, k.changed = true, time.Now()
		}
		delete(u.account.users, name)
	}
}

// DropKey deletes an access key, as a person might.
func (s *Server) DropKey(accountID, name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	if i := slices.IndexFunc(u.keys, func(k *key) bool { return k.id == id }); i >= 0 {
		u.drop(i, time.Now())
	}
}

// Attach adds everything to a user that people and services may add: a console password, an MFA
// device, an SSH key, a signing certificate and a service's credential.
func (s *Server) Attach(accountID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	u.login = true
	u.mfa = append(u.mfa, "arn:aws:iam::"+accountID+":mfa/"+name)
	u.ssh = append(u.ssh, "APKA"+token(16))
	u.certs = append(u.certs, "CERT"+token(16))
	u.service = append(u.service, "ACCA"+token(16))
}

// Users returns the names of an account's users, sorted, without the lag of lists.
func (s *Server) Users(accountID string) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.account(accountID).users {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A Key is an access key in the answers of the server's methods.
type Key struct {
	ID       string
	Inactive bool
}

// Keys returns the access keys of a user, oldest first, without the lag of lists.
func (s *Server) Keys(accountID, name string) (keys []Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.account(accountID).users[name]; u != nil {
		for _, k := range u.keys {
			keys = append(keys, Key{k.id, k.inactive})
		}
	}
	return keys
}

// A Held describes what one user has.
type Held struct {
	Path, Boundary   string
	Tags, Inline     map[string]string
	Attached, Groups []string
}

// Held returns what a user has; false if the user does not exist.
func (s *Server) Held(accountID, name string) (Held, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	if u == nil {
		return Held{}, false
	}
	return Held{u.path, u.boundary, u.tags, u.inline, u.attached, u.groups}, true
}

// Works reports whether calls that are signed with a key are accepted.
func (s *Server) Works(id, secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[id]
	return k != nil && k.secret == secret && s.live(k, time.Now()) == ""
}

// Narrowed returns the policies that limit a session.
func (s *Server) Narrowed(id string) (policy string, arns []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[id]; k != nil && k.session != nil {
		return k.session.policy, k.session.arns
	}
	return "", nil
}

// Use records a use of a key, as a call of another service would.
func (s *Server) Use(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[id]; k != nil {
		k.used = append(k.used, use{time.Now(), "s3"})
	}
}

// Calls returns how often an action was called.
func (s *Server) Calls(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[action]
}

// A Kept is an access key with everything that is needed to restore it on another server.
type Kept struct {
	ID, Secret string
	Made       time.Time // zero means long ago
	Inactive   bool
}

// Restore adds kept access keys to a user.
func Restore(s *Server, accountID, name string, keys ...Kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	for _, one := range keys {
		k := s.addKey(u, one.ID, one.Secret)
		k.made, k.inactive = one.Made, one.Inactive
	}
}
