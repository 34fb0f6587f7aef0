// Package awsserver is a server of those calls of the AWS IAM and STS query APIs that
// Keyturn makes, for tests and demonstrations where there is no AWS. It behaves as AWS documents:
// it checks signatures (Signature Version 4) and permissions, knows the states in which a call is refused,
// answers in AWS's XML, and is only eventually consistent, as far as [Options] say.
// On command its calls fail, before or after their effect, hang, or take effect late.
//
// Sources: the IAM and STS API references, "Signature Version 4 signing process" of AWS's
// general reference. What has been tested against this server alone has not been
// tested against AWS.
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
	s := &Server{o: o, accounts: map[string]*account{}, keys: map[string]*key{}, calls: map[string]int{}, policies: map[string]bool{}}
	s.account(Account)
	return s
}

// AddAdmin makes a user who may make all calls, with an access key that works at once.
func (s *Server) AddAdmin(accountID, name, keyID, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.addUser(s.account(accountID), name, "/")
	u.admin = true
	s.addKey(u, keyID, secret)
}

// AddUser makes a user without keys, as a person would have done.
func (s *Server) AddUser(accountID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addUser(s.account(accountID), name, "/")
}

// AddKey gives a user an access key, which works at once. It returns id and secret.
func (s *Server) AddKey(accountID, name string) (id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, secret = newKey("AKIA")
	s.addKey(s.account(accountID).users[name], id, secret)
	return id, secret
}

// MakeKey gives a user an access key now, as a person would.
func (s *Server) MakeKey(accountID, name string) (id, secret string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, secret = newKey("AKIA")
	s.addKey(s.account(accountID).users[name], id, secret).made = time.Now()
	return id, secret
}

// AddRole makes or replaces a role.
func (s *Server) AddRole(accountID string, r Role) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(accountID).roles[r.Name] = &r
}

// AddGroup makes a group.
func (s *Server) AddGroup(accountID, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account(accountID).groups[name] = &group{inline: map[string]string{}}
}

// GiveGroup gives a group a policy of its own, and attaches managed ones.
func (s *Server) GiveGroup(accountID, name, policy, document string, arns ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.account(accountID).groups[name]
	g.inline[policy] = document
	g.attached = append(g.attached, arns...)
}

// DropUser removes a user with all that it has, as a person would have done.
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

// DropKey deletes an access key, as a person would have done.
func (s *Server) DropKey(accountID, name, id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	if i := slices.IndexFunc(u.keys, func(k *key) bool { return k.id == id }); i >= 0 {
		u.drop(i, time.Now())
	}
}

// Attach gives a user all that people and services add to one: a console password, an MFA
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

// Users are the names of an account's users, sorted, whatever lists show.
func (s *Server) Users(accountID string) (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.account(accountID).users {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A Key is an access key as its owner would see it.
type Key struct {
	ID       string
	Inactive bool
}

// Keys are the access keys of a user, oldest first, whatever lists show.
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

// A Held is what one user has.
type Held struct {
	Path, Boundary   string
	Tags, Inline     map[string]string
	Attached, Groups []string
}

// Held tells what a user has; false where there is none.
func (s *Server) Held(accountID, name string) (Held, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	if u == nil {
		return Held{}, false
	}
	return Held{u.path, u.boundary, u.tags, u.inline, u.attached, u.groups}, true
}

// Works reports whether a key signs calls that are let in.
func (s *Server) Works(id, secret string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[id]
	return k != nil && k.secret == secret && s.live(k, time.Now()) == ""
}

// Narrowed tells what a session was narrowed to when it was made.
func (s *Server) Narrowed(id string) (policy string, arns []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[id]; k != nil && k.session != nil {
		return k.session.policy, k.session.arns
	}
	return "", nil
}

// Use notes that a key was used now, as a call of another service would.
func (s *Server) Use(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.keys[id]; k != nil {
		k.used = append(k.used, use{time.Now(), "s3"})
	}
}

// Calls is how often an action was called.
func (s *Server) Calls(action string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[action]
}

// A Kept is an access key with all that makes it, to be there again on another server.
type Kept struct {
	ID, Secret string
	Made       time.Time // zero: long ago
	Inactive   bool
}

// Restore gives a user access keys that were kept.
func Restore(s *Server, accountID, name string, keys ...Kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.account(accountID).users[name]
	for _, one := range keys {
		k := s.addKey(u, one.ID, one.Secret)
		k.made, k.inactive = one.Made, one.Inactive
	}
}
