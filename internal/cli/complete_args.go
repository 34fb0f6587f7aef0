package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
)

// requestOps maps the commands whose argument is a path of the API to the operation that they
// call. help stands for any operation.
var requestOps = map[string]string{
	"read": "read", "write": "update", "patch": "patch", "delete": "delete", "list": "list", "path-help": "help",
	"token capabilities": "help",
}

// argument returns the candidates for the argument that is being typed. Tokens,
// keys and values are never offered.
func (comp *completion) argument(typed string) []candidate {
	if strings.Contains(comp.c.args, "K=V") && len(comp.args) > 0 {
		if key, file, has := strings.Cut(typed, "@"); has && (key == "" || strings.HasSuffix(key, "=")) {
			return prefixed(key+"@", files(file))
		}
		return nil
	}
	if comp.c.max >= 0 && len(comp.args) >= comp.c.max {
		return nil
	}
	if op, known := requestOps[comp.line]; known {
		return comp.paths(op, typed)
	}
	group, name, _ := strings.Cut(comp.line, " ")
	switch group {
	case "kv":
		return comp.secretPaths(name, typed)
	case "rotate":
		return comp.rotationNames("keys")
	case "recipe":
		if name == "test" {
			return files(typed)
		}
		return comp.rotationNames("recipes")
	case "lease":
		return comp.tree("sys/leases/lookup", typed)
	case "policy":
		if name == "fmt" || len(comp.args) > 0 {
			return files(typed)
		}
		return comp.list(policies, "")
	case "plugin":
		if len(comp.args) == 0 {
			return wordsOf("auth", "database", "secret")
		}
		if at, err := catalog.child(comp.args[0]); err == nil {
			return comp.list(at, "")
		}
	case "secrets", "auth":
		return comp.mountArguments(group == "auth", name)
	case "audit":
		if name == "enable" {
			return wordsOf("file")
		}
		return comp.auditDevices()
	case "token":
		if mode := comp.flags.set.Lookup("mode"); mode != nil && mode.Value.String() == "path" {
			return comp.tree("sys/leases/lookup", typed)
		}
	}
	return nil
}

func (comp *completion) auditDevices() []candidate {
	var found []candidate
	comp.query(func(ctx context.Context, c *client) error {
		sec, err := c.read(ctx, auditDevices, nil)
		if sec != nil {
			eachMount(sec.Data, func(path string, device map[string]any) {
				found = append(found, wholeWord(path, text(device["type"])))
			})
		}
		return err
	})
	return found
}

// rotationNames returns the keys, or the recipes, of the rotation engine that -mount names.
func (comp *completion) rotationNames(below target) []candidate {
	if len(comp.args) > 0 {
		return nil
	}
	at, err := folder(comp.flags.set.Lookup("mount").Value.String())
	if err != nil {
		return nil
	}
	return comp.list(at.below(below), "")
}

// flagValues returns the candidates for the value of a flag.
func (comp *completion) flagValues(name, typed string) []candidate {
	if comp.flags == nil { // in front of the command
		comp.flags = newFlags(&command{}, comp.s)
	}
	value := ""
	for _, f := range comp.flags.shown {
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
		return comp.mountsFor(strings.HasPrefix(comp.line, "rotate") || strings.HasPrefix(comp.line, "recipe"))
	case name == "policy":
		return comp.list(policies, "")
	case name == "role":
		return comp.list("auth/token/roles", "")
	case name == "method" && comp.line == "login":
		return wordsOf(sortedKeys(loginUsages)...)
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
	case name == "path" && comp.line == "login":
		return comp.mountArguments(true, "")
	}
	return nil
}

// files returns the local files whose path begins with typed. Folders are not whole words.
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
		info, err := os.Stat(filepath.Join(at, name)) // follows links
		if isFolder := err == nil && info.IsDir(); isFolder {
			found = append(found, partOfWord(folder+name+"/", ""))
		} else {
			found = append(found, wholeWord(folder+name, ""))
		}
	}
	return found
}
