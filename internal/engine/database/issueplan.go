package database

import "github.com/keyturn/keyturn/internal/storage"

// A issuedUser user is what a lease knows of it. The JSON names are short because
// there are as many as leases.
type issuedUser struct {
	Config     string   `json:"c"` // id
	Role       string   `json:"r"`
	RoleID     string   `json:"i"`
	User       string   `json:"u"`
	Revocation []string `json:"s,omitempty"` // as they were
	Terminate  bool     `json:"t,omitempty"`
	Again      string   `json:"ag,omitempty"` // the key by which it may be given out again
	Repeats    bool     `json:"n,omitempty"`  // the template makes the name again
}

// issuePlan is what plan hands to create.
type issuePlan struct {
	issuedUser
	creation, rollback []string
	credential         credentialConfig
	login              login
	by                 issuedWith
	warn               func(text string) // tells the client
}

type credsOut struct {
	loginOut
	Username string `json:"username"`
}

// issuing is the route creds/.
type issuing struct{ *backend }

// issuedWith is what a user was made by. One that was made by something else is not given out again: the role may give
// less by now, or lead to another database.
type issuedWith struct {
	Role    string          `json:"role"` // id
	Version storage.Version `json:"version"`
	Config  string          `json:"config"` // id
	Place   string          `json:"place,omitempty"`
}
