package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"
)

// rotationFlag declares -mount for the commands that talk to the rotation
// engine.
func rotationFlag(f *flags, mount *string) {
	*mount = "rotation"
	f.String(mount, "mount", "path", "where the rotation engine is mounted; rotation by default")
}

// keyPath is where the key of a name is.
func keyPath(mount, name string) (target, error) {
	at, err := folder(mount)
	if err != nil {
		return "", err
	}
	return at.below("keys").with(name)
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

// oneLine is a text in one line: in a table, another line would look like another row.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }

// withoutEmpty are the fields that say something, for people.
func withoutEmpty(data map[string]any) map[string]any {
	out := maps.Clone(data)
	maps.DeleteFunc(out, func(_ string, v any) bool {
		shown := text(v)
		return v == nil || v == false || shown == "" || shown == "[]" || shown == "map[]"
	})
	return out
}
