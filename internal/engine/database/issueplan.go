package database

import "github.com/keyturn/keyturn/internal/storage"

// An issuedUser is what a lease stores of its user. The JSON names are short because there are as
// many as leases.
type issuedUser struct {
	Config     string   `json:"c"` // the connection's id
	Role       string   `json:"r"`
	RoleID     string   `json:"i"`
	User       string   `json:"u"`
	Revocation []string `json:"s,omitempty"`  // revocation_statements when the lease was issued
	Terminate  bool     `json:"t,omitempty"`  // terminate_sessions when the lease was issued
	ReuseKey   string   `json:"ag,omitempty"` // the key of the reusable user
	Repeats    bool     `json:"n,omitempty"`  // the template generates the same name again
}

// An issuePlan is what plan hands to create.
type issuePlan struct {
	issuedUser
	creation, rollback []string
	credential         credentialConfig
	login              login
	source             userSource
	warn               func(text string) // warns the client
}

type credsOut struct {
	loginOut
	Username string `json:"username"`
}

// A userSource is the version of role and connection by which a user was created. A user of
// another version is not reused, because the role may grant less by now, or use another database.
type userSource struct {
	Role    string          `json:"role"` // id
	Version storage.Version `json:"version"`
	Config  string          `json:"config"` // id
	Place   string          `json:"place,omitempty"`
}
