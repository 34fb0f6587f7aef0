package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"
)

func rotateCommand() *command {
	return &command{
		name: "rotate", short: "Turn keys, go back, and see how turns went",
		long: "Works with the keys that the rotation engine turns: it creates a new key at its\nprovider, proves that it works, publishes it, gives readers time, and retires the\nold one.",
		sub: []*command{
			turnCommand("now", "rotate", "Success! Turning key: %s", &command{
				short: "Turn a key now", long: "Starts a turn. It goes on by itself; rotate status shows how far it is.",
				examples: []example{{"Turn a key:", "keyturn rotate now stripe"}, {"Turn a key and see it done:", "keyturn rotate now -wait stripe"}, {"Turn a key that leaked, without the grace period:", "keyturn rotate now -leaked stripe"}},
			}),
			rotateStatus(), rotateHistory(), rotatePlan(), rotateOrphans(),
			turnCommand("rollback", "rollback", "Success! Rolling back key: %s", &command{
				short: "Go back to the key before", long: "Publishes the old key again, and retires the new one after its grace period. With\n-to or -version, publishes another key that still lives at the provider.",
				examples: []example{{"Go back:", "keyturn rotate rollback stripe"}, {"Go back to what version 1 of the path held:", "keyturn rotate rollback -version=1 stripe"}},
			}),
			turnCommand("pause", "pause", "Success! Paused key: %s", &command{
				short: "Stop turning a key", long: "Stops a key's schedule, and a turn before its next step.",
				examples: []example{{"Pause a key:", "keyturn rotate pause stripe"}},
			}),
			turnCommand("resume", "resume", "Success! Resumed key: %s", &command{
				short: "Go on turning a key", long: "Resumes a paused key.",
				examples: []example{{"Resume a key:", "keyturn rotate resume stripe"}},
			}),
		},
	}
}

// rotationFlag declares -mount for the commands that talk to the rotation
// engine.
func rotationFlag(f *flags, mount *string) {
	*mount = "rotation"
	f.String(mount, "mount", "path", "where the rotation engine is mounted; rotation by default")
}

// turnCommand makes c the command that calls an action of a key. Further
// arguments are fields of the request.
func turnCommand(name string, action target, success string, c *command) *command {
	var mount string
	var leaked, wait bool
	var to, version int
	c.name, c.args, c.min, c.max, c.fields = name, "NAME [K=V ...]", 1, -1, true
	c.flags = func(f *flags) {
		rotationFlag(f, &mount)
		if action == "rotate" {
			f.Bool(&leaked, "leaked", "the key is in wrong hands: retire it as soon as the new one is published")
			f.Bool(&wait, "wait", "show the progress, and end when the new key is published, or the rotation has failed")
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
		client, data, err := s.connectWithData(s.args[1:])
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
		sec, err := client.write(ctx, path.below(action), data)
		if err != nil {
			return rotationHint(ctx, s, remote(err, "calling %s of key %s", action, name), mount, name)
		}
		if wait {
			return waitPublished(ctx, s, client, mount, path)
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

// keyPath is where the key of a name is.
func keyPath(mount, name string) (target, error) {
	at, err := folder(mount)
	if err != nil {
		return "", err
	}
	return at.below("keys").with(name)
}

func rotatePlan() *command {
	return keyReport("plan", &command{
		short: "Show when a key will be turned", long: "Shows when the next turns of a key are due, and what each will do.",
		examples: []example{{"Show what comes:", "keyturn rotate plan stripe"}},
	})
}

// keyReport makes c the command that prints what a key's endpoint says.
func keyReport(kind target, c *command) *command {
	var mount string
	c.name, c.args, c.min, c.max, c.fields = string(kind), "NAME", 1, 1, true
	c.flags = func(f *flags) { rotationFlag(f, &mount) }
	c.run = func(ctx context.Context, s *session) error {
		path, err := keyPath(mount, s.args[0])
		if err != nil {
			return err
		}
		client, err := s.connect()
		if err != nil {
			return err
		}
		return s.showKey(ctx, client, mount, path.below(kind))
	}
	return c
}

// showKey reads and prints an endpoint of a key.
func (s *session) showKey(ctx context.Context, client *client, mount string, path target) error {
	sec, err := s.readKey(ctx, client, mount, path)
	if err != nil {
		return err
	}
	return s.out.showTree(sec)
}

// readKey reads an endpoint of a key.
func (s *session) readKey(ctx context.Context, client *client, mount string, path target) (*api.Secret, error) {
	sec, err := client.read(ctx, path, nil)
	if err != nil {
		return nil, rotationHint(ctx, s, remote(err, "reading %s", path), mount, s.args[0])
	}
	if sec == nil {
		return nil, rotationHint(ctx, s, nothingAt("%s", path), mount, s.args[0])
	}
	return sec, nil
}

// showTree prints an answer whose fields may be lists of objects: plain fields
// first, then each list as a table of its own.
func (out *printer) showTree(sec *api.Secret) error {
	if out.field != "" || out.format != "table" || sec.WrapInfo != nil {
		return out.show(sec)
	}
	out.warn(sec.Warnings)
	plain := map[string]any{}
	var parts []string
	for _, key := range sortedKeys(sec.Data) {
		heading := strings.ReplaceAll(key, "_", " ")
		if header, rows, ok := grid(sec.Data[key]); ok {
			parts = append(parts, section(heading, table(header, rows)))
		} else if lines := sentences(sec.Data[key]); lines != "" {
			parts = append(parts, section(heading, lines))
		} else {
			plain[key] = sec.Data[key]
		}
	}
	if len(plain) > 0 {
		parts = append([]string{pairTable(dataPairs(plain))}, parts...)
	}
	return out.write(strings.Join(parts, "\n"))
}

// sentences are the items of a list of texts of several words, one in a line; empty: v is no such list.
func sentences(v any) string {
	list, _ := v.([]any)
	var b strings.Builder
	for i, item := range list {
		text, ok := item.(string)
		if !ok || !strings.Contains(text, " ") {
			return ""
		}
		b.WriteString(indent(wrap(harmless(text), 74), fmt.Sprintf("%2d. ", i+1)))
	}
	return b.String()
}

// grid lays a list of objects out in rows, with a column for each name that
// occurs, in the order in which names first occur.
func grid(v any) (header []string, rows [][]string, ok bool) {
	list, _ := v.([]any)
	column := map[string]int{}
	for _, item := range list {
		object, isObject := item.(map[string]any)
		if !isObject {
			return nil, nil, false
		}
		for _, key := range leadingFirst(object) {
			if _, seen := column[key]; !seen {
				column[key] = len(header)
				header = append(header, key)
			}
		}
	}
	for _, item := range list {
		row := make([]string, len(header))
		for key, value := range item.(map[string]any) {
			row[column[key]] = gridCell(key, value)
		}
		rows = append(rows, row)
	}
	return header, rows, len(header) > 0
}

// leadingFirst orders the names of a turn's fields: what identifies it, when it
// was, and the rest by name.
func leadingFirst(object map[string]any) []string {
	var keys []string
	leading := []string{"turn", "step", "time", "at", "state", "started", "finished"}
	for _, key := range leading {
		if _, ok := object[key]; ok {
			keys = append(keys, key)
		}
	}
	for _, key := range sortedKeys(object) {
		if !slices.Contains(leading, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// gridCell is a value in one line; what is nested is JSON.
func gridCell(key string, v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case json.Number:
		return cell(dataPairs(map[string]any{key: v})[0].show)
	case map[string]any, []any:
		if b, err := json.Marshal(v); err == nil {
			return string(b)
		}
	}
	return strings.ReplaceAll(cell(v), "\n", " ")
}
