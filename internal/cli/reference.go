package cli

import (
	"bytes"
	"context"
	"strings"
)

// A Page describes one command for the reference.
type Page struct {
	Line     string // "kv get"
	Args     string
	Short    string
	Long     string
	Examples []Example
	Flags    []Flag
	Own      string // the usage of a command that parses its own flags
}

// An Example is a command line and what it does.
type Example struct{ What, Line string }

// A Flag is one flag of a command. The flags of a group are adjacent.
type Flag struct{ Group, Name, Value, Usage string }

// Pages describes every command that is not a group, in the order of the tree.
func Pages(ctx context.Context, env Env) []Page {
	return pagesOf(ctx, env, tree(env), "")
}

func pagesOf(ctx context.Context, env Env, c *command, above string) []Page {
	line := strings.TrimSpace(above + " " + c.name)
	var all []Page
	for _, sub := range c.sub {
		all = append(all, pagesOf(ctx, env, sub, line)...)
	}
	if len(c.sub) > 0 {
		return all
	}
	p := Page{Line: line, Args: c.args, Short: c.short, Long: c.long}
	if c.hook != nil {
		var out bytes.Buffer
		c.hook(ctx, []string{"-h"}, strings.NewReader(""), &out, &out)
		p.Own = out.String()
		return append(all, p)
	}
	for _, e := range c.examples {
		p.Examples = append(p.Examples, Example{What: e.what, Line: e.line})
	}
	for _, f := range newFlags(c, &session{name: "keyturn", env: env}).shown {
		p.Flags = append(p.Flags, Flag{Group: f.group, Name: f.name, Value: f.value, Usage: f.usage})
	}
	return append(all, p)
}
