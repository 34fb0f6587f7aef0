package cli

import (
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
)

// find follows args down the tree and returns the commands passed, the root
// first, and the arguments that are left: flags that stand before a command's
// name are the command's.
func (c *command) find(args []string) ([]*command, []string, error) {
	path := []*command{c}
	var before []string
	for len(c.sub) > 0 && len(args) > 0 {
		if strings.HasPrefix(args[0], "-") {
			width, err := c.flagWidth(args[0])
			if err != nil {
				return path, args, err
			}
			width = min(width, len(args))
			before, args = append(before, args[:width]...), args[width:]
			continue
		}
		i := slices.IndexFunc(c.sub, func(sub *command) bool { return sub.name == args[0] })
		if i < 0 {
			if err := unbuilt(strings.TrimSpace(lineOf("", path) + " " + args[0])); err != nil {
				return path, args, err
			}
			return path, args, c.unknown(args[0])
		}
		c, args = c.sub[i], args[1:]
		path = append(path, c)
	}
	return path, append(before, args...), nil
}

// flagWidth is how many arguments a flag before a command's name is made of: two
// where it has a value that does not follow an equal sign. What the flag takes is
// what it takes in the commands below c.
func (c *command) flagWidth(arg string) (int, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	if strings.Contains(name, "=") {
		return 1, nil
	}
	alone, valued := c.flagKinds(name)
	switch {
	case alone && valued:
		return 0, usagef("the flag %s means different things to different commands; write it after the command's name", arg)
	case valued:
		return 2, nil
	}
	return 1, nil // a command that has no such flag says so
}

// flagKinds reports whether a command at or below c has a flag of this name that
// stands alone, and one that has a value.
func (c *command) flagKinds(name string) (alone, valued bool) {
	for _, sub := range c.sub {
		a, v := sub.flagKinds(name)
		alone, valued = alone || a, valued || v
	}
	if c.run == nil {
		return alone, valued
	}
	known := newFlags(c, &session{}).set.Lookup(name)
	if known == nil {
		return alone, valued
	}
	if b, ok := known.Value.(*boolValue); ok && b.IsBoolFlag() {
		return true, valued
	}
	return alone, true
}

// unknown is the error for a name that is no command of c, with the nearest that
// is.
func (c *command) unknown(name string) error {
	err := usagef("there is no command %q", name)
	var names []string
	for _, sub := range c.sub {
		names = append(names, sub.name)
	}
	if best := fault.Nearest(name, names); best != "" {
		return hinted(err, "did you mean %q?", best)
	}
	return err
}

func lineOf(name string, path []*command) string {
	for _, c := range path[1:] {
		name += " " + c.name
	}
	return name
}
