// Package cli is the command line: one literal tree of commands over Vault's
// HTTP API.
//
// Grammar, output and exit codes are those of Vault's command line, so that scripts written for it
// run unchanged. The exit code is 0 for success, 1 for a local error (flags, files, input), and 2
// for an answer of the server that is not a success. Results go to standard output, everything
// else to standard error.
//
// The package keeps no state between two calls of [Main], because each call builds a new tree of
// commands, with the variables to which the flags write.
//
// The files stand in storeys. [Main] finds a command in the tree and runs it (cli, lookup, help,
// report, complete). Below are the commands, one file for each group (kv, rotate, token, …), and
// what they share: calls of the API (call), the session and its client (session, client, requests,
// hints), output (printer, format, layout), flags, errors, and the paths of requests (path,
// kvpath).
package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Main runs the command that args name and returns the exit code. args[0] is the program.
func Main(ctx context.Context, args []string, env Env) int {
	name := "keyturn"
	if len(args) > 0 {
		name = strings.TrimSuffix(filepath.Base(args[0]), ".exe")
		args = args[1:]
	}
	if env.Getenv == nil {
		env.Getenv = os.Getenv
	}
	if env.Stdin == nil {
		env.Stdin = strings.NewReader("")
	}
	p := program{name: name, env: env, root: tree(env)}
	if env.Getenv("COMP_LINE") != "" { // a shell calls to complete a line
		return p.complete(ctx, args)
	}
	return run(ctx, p, args)
}

// run finds the command, parses its flags and calls it.
func run(ctx context.Context, p program, args []string) int {
	switch first(args) {
	case "-v", "-version", "--version":
		if len(args) == 1 || strings.HasPrefix(args[1], "-") {
			args = append([]string{"version"}, args[1:]...)
		}
	case "-autocomplete-install", "--autocomplete-install", "-autocomplete-uninstall", "--autocomplete-uninstall":
		s := &session{name: p.name, line: p.name, env: p.env, out: printer{stdout: p.env.Stdout, stderr: p.env.Stderr}}
		return s.report(ctx, installCompletion(s, strings.HasSuffix(args[0], "uninstall")))
	case "help":
		args = append(args[1:len(args):len(args)], "-h")
	}
	path, rest, err := p.root.find(args)
	c := path[len(path)-1]
	s := &session{name: p.name, line: lineOf(p.name, path), env: p.env}
	s.out = printer{stdout: p.env.Stdout, stderr: p.env.Stderr}
	if err != nil {
		return s.report(ctx, err)
	}
	if c.hook != nil {
		return c.hook(ctx, rest, p.env.Stdin, p.env.Stdout, p.env.Stderr)
	}
	if c.run == nil {
		return s.listCommands(ctx, c, rest)
	}
	s.flags = newFlags(c, s)
	wantsHelp, err := s.prepare(c, rest)
	if wantsHelp {
		return s.report(ctx, s.out.write(s.usage(c, s.flags)))
	}
	if err == nil {
		err = c.run(ctx, s)
	}
	return s.report(ctx, s.printRequest(ctx, err))
}

// listCommands prints the usage of a group that was named without one of its commands.
func (s *session) listCommands(ctx context.Context, c *command, rest []string) int {
	switch first(rest) {
	case "-h", "-help", "--help":
		return s.report(ctx, s.out.write(s.usage(c, nil)))
	}
	io.WriteString(s.env.Stderr, s.usage(c, nil))
	return exitLocal
}
