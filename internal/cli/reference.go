package cli

import (
	"bytes"
	"context"
	"strings"
)

// A Page is one command, for the reference.
type Page struct {
	Line     string // "kv get"
	Args     string
	Short    string
	Long     string
	Examples []Example
	Flags    []Flag
	Own      string // how a command that lives elsewhere describes itself
}

// An Example is a line that works, and what it does.
type Example struct{ What, Line string }

// A Flag is one flag of a command. Flags of one group stand together.
type Flag struct{ Group, Name, Value, Usage string }

// Pages describes every command that does something, in the order of the tree.
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
		p.Examples = append(p.Examples, Example{e.what, e.line})
	}
	for _, f := range newFlags(c, &session{name: "keyturn", env: env}).shown {
		p.Flags = append(p.Flags, Flag{f.group, f.name, f.value, f.usage})
	}
	return append(all, p)
}
