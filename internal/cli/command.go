package cli

import (
	"context"
)

// A command is a leaf of the tree, with run or hook, or a group, with sub.
type command struct {
	name     string
	short    string // one line, for the list of commands
	args     string // the arguments as usage shows them: "PATH [K=V ...]"
	min, max int    // how many arguments; max below zero: any number
	long     string
	examples []example
	flags    func(*flags) // the command's own flags
	local    bool         // talks to no server: has no HTTP flags
	fields   bool         // has -field
	colors   bool         // has -no-color
	run      func(context.Context, *session) error
	hook     Hook
	sub      []*command
}

// An example is a line that works as it stands, and what it does. Lines are
// written with the name keyturn; usage shows the name that was typed.
type example struct{ what, line string }

// A session is one command being run: what was typed, and the client that it
// makes when it first needs one.
type session struct {
	name   string // the program, as it was started
	line   string // the program and the command
	env    Env
	args   []string
	flags  *flags
	opt    options
	out    printer
	client *client
}

// options are the HTTP flags.
type options struct {
	address, agentAddress, tlsServerName        string
	caFile, caFolder, clientCert, clientKeyFile string
	namespace, wrapTTL                          string
	headers                                     map[string]string
	mfa                                         []string
	skipVerify, noRedirects, policyOverride     bool
	asCurl, asPolicy, noPrompt                  bool
}

func (c *command) expected() string {
	if c.args == "" {
		return "none"
	}
	return c.args
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// A program is one started command line.
type program struct {
	name string
	env  Env
	root *command
}
