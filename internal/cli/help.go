package cli

import (
	"fmt"
	"strings"
)

// usage returns the help text of a command. f is nil for a group.
func (s *session) usage(c *command, f *flags) string {
	var b strings.Builder
	if len(c.sub) > 0 {
		fmt.Fprintf(&b, "Usage: %s <command> [options] [arguments]\n", s.line)
	} else {
		fmt.Fprintf(&b, "Usage: %s\n", strings.TrimSpace(s.line+" [options] "+c.args))
	}
	if long := strings.TrimSpace(c.long); long != "" {
		fmt.Fprintf(&b, "\n%s", indent(s.named(long), "  "))
	}
	for _, e := range c.examples {
		fmt.Fprintf(&b, "\n  %s\n\n%s", e.what, indent(s.named(e.line), "      $ "))
	}
	if len(c.sub) > 0 {
		b.WriteString("\nCommands:\n")
		var rows [][]string
		for _, sub := range c.sub {
			rows = append(rows, []string{"    " + sub.name, sub.short})
		}
		b.WriteString(columns(rows))
		fmt.Fprintf(&b, "\nHelp for one of them: %s <command> -h\n", s.line)
	}
	if f != nil {
		f.describe(&b)
	}
	return b.String()
}

// describe lists the flags by group.
func (f *flags) describe(b *strings.Builder) {
	group := ""
	for _, g := range f.shown {
		if g.group != group {
			group = g.group
			fmt.Fprintf(b, "\n%s:\n", group)
		}
		name := "-" + g.name
		if g.value != "" {
			name += "=<" + g.value + ">"
		}
		fmt.Fprintf(b, "\n  %s\n%s", name, indent(wrap(g.usage, 70), "      "))
	}
}

// named replaces keyturn by the name under which the program was started.
func (s *session) named(text string) string {
	if s.name == "keyturn" {
		return text
	}
	return strings.ReplaceAll(text, "keyturn ", s.name+" ")
}
