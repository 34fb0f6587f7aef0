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

// rotationFlag declares -mount for the commands of the rotation engine.
func rotationFlag(f *flags, mount *string) {
	*mount = "rotation"
	f.String(mount, "mount", "path", "where the rotation engine is mounted; rotation by default")
}

// keyPath returns the path of a key.
func keyPath(mount, name string) (target, error) {
	at, err := folder(mount)
	if err != nil {
		return "", err
	}
	return at.below("keys").child(name)
}

// keyReadCommand completes c: the command reads and prints an endpoint of a key.
func keyReadCommand(kind target, c *command) *command {
	var mount string
	c.name, c.args, c.min, c.max, c.fields = string(kind), "NAME", 1, 1, true
	c.flags = func(f *flags) { rotationFlag(f, &mount) }
	c.run = func(ctx context.Context, s *session) error {
		path, err := keyPath(mount, s.args[0])
		if err != nil {
			return err
		}
		return s.showKey(ctx, mount, path.below(kind))
	}
	return c
}

// showKey reads and prints an endpoint of a key.
func (s *session) showKey(ctx context.Context, mount string, path target) error {
	sec, err := s.readKey(ctx, mount, path)
	if err != nil {
		return err
	}
	return s.out.showTree(sec)
}

// readKey reads an endpoint of a key.
func (s *session) readKey(ctx context.Context, mount string, path target) (*api.Secret, error) {
	sec, err := s.read(ctx, call{op: "read", path: path, doing: "reading " + string(path)})
	if err != nil {
		return nil, rotationHint(ctx, s, err, mount, s.args[0])
	}
	return sec, nil
}

// showTree prints an answer that has lists: first the plain fields, then each list in its own
// section.
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
		} else if lines := numberedList(sec.Data[key]); lines != "" {
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

// numberedList returns the items of a list of sentences, one on a line, or "" if v is something
// else.
func numberedList(v any) string {
	list, _ := v.([]any)
	var b strings.Builder
	for i, item := range list {
		text, ok := item.(string)
		if !ok || !strings.Contains(text, " ") {
			return ""
		}
		b.WriteString(indent(wrap(printable(text), 74), fmt.Sprintf("%2d. ", i+1)))
	}
	return b.String()
}

// grid returns a list of objects as rows, with a column for each name, in the order of their first
// use.
func grid(v any) (header []string, rows [][]string, ok bool) {
	list, _ := v.([]any)
	column := map[string]int{}
	for _, item := range list {
		object, isObject := item.(map[string]any)
		if !isObject {
			return nil, nil, false
		}
		for _, key := range fieldOrder(object) {
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

// fieldOrder orders the fields of an object: first those that identify it and its times, then the
// rest by name.
func fieldOrder(object map[string]any) []string {
	var keys []string
	leading := []string{"rotation", "step", "time", "at", "state", "started", "finished"}
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

// gridCell returns a value on one line. A nested value is JSON.
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

// oneLine joins the lines of a text, because in a table a second line would look like another row.
func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }

// withoutEmpty returns the fields that are not empty, for people.
func withoutEmpty(data map[string]any) map[string]any {
	out := maps.Clone(data)
	maps.DeleteFunc(out, func(_ string, v any) bool {
		shown := text(v)
		return v == nil || v == false || shown == "" || shown == "[]" || shown == "map[]"
	})
	return out
}
