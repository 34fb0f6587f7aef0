package cli

import (
	"context"
	"fmt"
)

// actionCommand completes c: the command calls an action of a key. Further arguments are fields of
// the request.
func actionCommand(name string, action target, success string, c *command) *command {
	var mount string
	var leaked, wait bool
	var to, version int
	c.name, c.args, c.min, c.max, c.fields = name, "NAME [K=V ...]", 1, -1, true
	c.flags = func(f *flags) {
		rotationFlag(f, &mount)
		if action == "rotate" {
			f.Bool(&leaked, "leaked", "the key has leaked: retire it as soon as the new one is published")
			f.Bool(&wait, "wait",
				"show the progress, and end when the new key is published, or the rotation has failed")
		}
		if action == "rollback" {
			f.Int(&to, "to", "the rotation whose key is published again; by default the one before")
			f.Int(&version, "version", "the version of the path whose key is published again")
		}
	}
	c.run = func(ctx context.Context, s *session) error {
		name := s.args[0]
		path, err := keyPath(mount, name)
		if err != nil {
			return err
		}
		data, err := parseData(s.env.Stdin, s.args[1:])
		if err != nil {
			return err
		}
		if leaked {
			data["leaked"] = true
		}
		for name, n := range map[string]int{"to": to, "version": version} {
			if s.flags.given(name) && action == "rollback" {
				data[name] = n
			}
		}
		sec, err := s.send(ctx, call{
			op: "update", path: path.below(action), body: data,
			doing: fmt.Sprintf("calling %s of key %s", action, name),
		})
		if err != nil {
			return rotationHint(ctx, s, err, mount, name)
		}
		if wait {
			return waitPublished(ctx, s, mount, path)
		}
		if sec == nil || s.out.format != "table" || s.out.field != "" || sec.WrapInfo != nil {
			return s.out.done(sec, success, name)
		}
		if err := s.out.say(success, name); err != nil {
			return err
		}
		return s.out.showTree(sec)
	}
	return c
}

func rotatePlan() *command {
	return keyReadCommand("plan", &command{
		short:    "Show when a key will be rotated",
		long:     "Shows when the next rotations of a key are due, and what each will do.",
		examples: []example{{"Show the plan:", "keyturn rotate plan stripe"}},
	})
}
