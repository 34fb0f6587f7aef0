package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// requestOps are the commands whose argument is a path of the API, with the
// operation that they ask for; help is every one.
var requestOps = map[string]string{
	"read": "read", "write": "update", "patch": "patch", "delete": "delete", "list": "list", "path-help": "help", "token capabilities": "help",
}

// argument returns the candidates for the argument that is being typed. Tokens,
// keys and values are never offered.
func (q *question) argument(typed string) []candidate {
	if strings.Contains(q.c.args, "K=V") && len(q.args) > 0 {
		if key, file, has := strings.Cut(typed, "@"); has && (key == "" || strings.HasSuffix(key, "=")) {
			return prefixed(key+"@", files(file))
		}
		return nil
	}
	if q.c.max >= 0 && len(q.args) >= q.c.max {
		return nil
	}
	if op, known := requestOps[q.line]; known {
		return q.paths(op, typed)
	}
	group, name, _ := strings.Cut(q.line, " ")
	switch group {
	case "kv":
		return q.secretsAt(name, typed)
	case "rotate":
		return q.namesOfRotation("keys")
	case "recipe":
		if name == "test" {
			return files(typed)
		}
		return q.namesOfRotation("recipes")
	case "lease":
		return q.tree("sys/leases/lookup", typed)
	case "policy":
		if name == "fmt" || len(q.args) > 0 {
			return files(typed)
		}
		return q.listed(policies, "")
	case "plugin":
		if len(q.args) == 0 {
			return wordsOf("auth", "database", "secret")
		}
		if at, err := catalog.with(q.args[0]); err == nil {
			return q.listed(at, "")
		}
	case "secrets", "auth":
		return q.ofMounts(group == "auth", name)
	case "audit":
		if name == "enable" {
			return wordsOf("file")
		}
		return q.auditDevices()
	case "token":
		if mode := q.flags.set.Lookup("mode"); mode != nil && mode.Value.String() == "path" {
			return q.tree("sys/leases/lookup", typed)
		}
	}
	return nil
}

func (q *question) auditDevices() []candidate {
	var found []candidate
	q.ask(func(ctx context.Context, c *client) error {
		sec, err := c.read(ctx, auditDevices, nil)
		if sec != nil {
			each(sec.Data, func(path string, device map[string]any) {
				found = append(found, wholeWord(path, text(device["type"])))
			})
		}
		return err
	})
	return found
}

// namesOfRotation are the keys, or the recipes, of the rotation engine that -mount names.
func (q *question) namesOfRotation(below target) []candidate {
	if len(q.args) > 0 {
		return nil
	}
	at, err := folder(q.flags.set.Lookup("mount").Value.String())
	if err != nil {
		return nil
	}
	return q.listed(at.below(below), "")
}

// flagValues are what the value of a flag may be.
func (q *question) flagValues(name, typed string) []candidate {
	if q.flags == nil { // in front of the command
		q.flags = newFlags(&command{}, q.s)
	}
	value := ""
	for _, f := range q.flags.shown {
		if f.name == name {
			value = f.value
		}
	}
	switch {
	case name == "format":
		return wordsOf("table", "json", "yaml", "raw")
	case value == "file", value == "folder":
		return files(typed)
	case name == "mount":
		return q.mountsFor(strings.HasPrefix(q.line, "rotate") || strings.HasPrefix(q.line, "recipe"))
	case name == "policy":
		return q.listed(policies, "")
	case name == "role":
		return q.listed("auth/token/roles", "")
	case name == "method" && q.line == "login":
		return wordsOf(sortedKeys(loginUses)...)
	case name == "method":
		return wordsOf("patch", "rw")
	case name == "mode":
		return wordsOf("orphan", "path")
	case name == "type":
		return wordsOf("service", "batch")
	case name == "token-type":
		return wordsOf("default-service", "default-batch", "service", "batch")
	case name == "listing-visibility":
		return wordsOf("unauth", "hidden")
	case name == "path" && q.line == "login":
		return q.ofMounts(true, "")
	}
	return nil
}

// files are those of this machine that a path may mean; folders go on.
func files(typed string) []candidate {
	folder, base := filepath.Split(typed)
	at := folder
	if at == "" {
		at = "."
	}
	entries, err := os.ReadDir(at)
	if err != nil {
		return nil
	}
	var found []candidate
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") && !strings.HasPrefix(base, ".") {
			continue
		}
		info, err := os.Stat(filepath.Join(at, name)) // of what a link leads to
		if isFolder := err == nil && info.IsDir(); isFolder {
			found = append(found, candidate{folder + name + "/", false, ""})
		} else {
			found = append(found, wholeWord(folder+name, ""))
		}
	}
	return found
}
