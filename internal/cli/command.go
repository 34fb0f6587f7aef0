package cli

import "context"

// A command is a leaf of the tree, which has run or hook, or a group, which has sub.
type command struct {
	name     string
	short    string // one line, for the list of commands
	args     string // the arguments as usage shows them: "PATH [K=V ...]"
	min, max int    // number of arguments; a negative max is no limit
	long     string
	examples []example
	flags    func(*flags) // the command's own flags
	local    bool         // calls no server, so it has no HTTP flags
	fields   bool         // has -field
	colors   bool         // has -no-color
	run      func(context.Context, *session) error
	hook     Hook
	sub      []*command
}

// An example is a command line that works, and what it does. Lines name the program keyturn; the
// usage shows the name under which the program was started.
type example struct{ what, line string }

// A session is one run of a command: its arguments, and the client, which connect makes.
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

// A program is one run of the binary.
type program struct {
	name string
	env  Env
	root *command
}
