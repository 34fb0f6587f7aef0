package cli

import (
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
)

// find follows args down the tree. It returns the path from the root to the command, and the
// remaining arguments, which include the flags that stand before the command's name.
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
			if err := unsupportedCommand(strings.TrimSpace(lineOf("", path) + " " + args[0])); err != nil {
				return path, args, err
			}
			return path, args, c.unknown(args[0])
		}
		c, args = c.sub[i], args[1:]
		path = append(path, c)
	}
	return path, append(before, args...), nil
}

// flagWidth returns the number of arguments of a flag that stands before a command's name: two if
// a value follows without an equal sign. The commands below c decide whether the flag has a value.
func (c *command) flagWidth(arg string) (int, error) {
	name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	if strings.Contains(name, "=") {
		return 1, nil
	}
	isSwitch, hasValue := c.flagKinds(name)
	switch {
	case isSwitch && hasValue:
		return 0, usagef("the flag %s means different things to different commands; write it after the command's name",
			arg)
	case hasValue:
		return 2, nil
	}
	return 1, nil // a command without this flag reports it
}

// flagKinds reports whether a command at or below c has a flag of this name without a value, and
// whether one has it with a value.
func (c *command) flagKinds(name string) (isSwitch, hasValue bool) {
	for _, sub := range c.sub {
		a, v := sub.flagKinds(name)
		isSwitch, hasValue = isSwitch || a, hasValue || v
	}
	if c.run == nil {
		return isSwitch, hasValue
	}
	known := newFlags(c, &session{}).set.Lookup(name)
	if known == nil {
		return isSwitch, hasValue
	}
	if b, ok := known.Value.(*boolValue); ok && b.IsBoolFlag() {
		return true, hasValue
	}
	return isSwitch, true
}

// unknown returns the error for a name that is no command of c, with the nearest name.
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
