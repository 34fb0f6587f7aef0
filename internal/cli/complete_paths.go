package cli

import (
	"context"
	"slices"
	"strings"
)

// seen are the mounts, asked for once. Those that are always there are among them
// although the server does not answer.
func (q *question) seen() []seenMount {
	if q.asked {
		return q.mounts
	}
	q.asked = true
	q.mounts = []seenMount{{"sys/", "sys", false}}
	q.ask(func(ctx context.Context, c *client) error {
		sec, err := c.read(ctx, "sys/internal/ui/mounts", nil)
		if sec == nil {
			return err
		}
		for _, class := range []string{"secret", "auth"} {
			mounts, _ := sec.Data[class].(map[string]any)
			each(mounts, func(path string, mount map[string]any) {
				m := seenMount{path, text(mount["type"]), class == "auth"}
				if options, _ := mount["options"].(map[string]any); options["version"] == "2" {
					m.kind = "kv-v2"
				}
				if m.auth {
					m.path = string(authKind.prefix) + path
				}
				if m.path != "sys/" {
					q.mounts = append(q.mounts, m)
				}
			})
		}
		return err
	})
	return q.mounts
}

// mountsFor are the mounts of the engine that a flag -mount is for.
func (q *question) mountsFor(rotation bool) []candidate {
	var found []candidate
	for _, m := range q.seen() {
		if rotation && m.kind == "rotation" || !rotation && (m.kind == "kv" || m.kind == "kv-v2") {
			found = append(found, wholeWord(strings.TrimSuffix(m.path, "/"), m.kind))
		}
	}
	return found
}

// mountOf is the mount of a path, and the path below it; nil: none is seen.
func (q *question) mountOf(path string) (*seenMount, string) {
	var best *seenMount
	for i, m := range q.seen() {
		if strings.HasPrefix(path, m.path) && (best == nil || len(m.path) > len(best.path)) {
			best = &q.mounts[i]
		}
	}
	if best == nil {
		return nil, ""
	}
	return best, strings.TrimPrefix(path, best.path)
}

// mountNames are the mounts as the beginnings of paths.
func (q *question) mountNames() []candidate {
	var found []candidate
	for _, m := range q.seen() {
		found = append(found, candidate{m.path, false, m.kind})
	}
	return found
}

// secretsAt are the paths of secrets, for the kv commands.
func (q *question) secretsAt(command, typed string) []candidate {
	if len(q.args) > 0 {
		return nil
	}
	if command == "enable-versioning" {
		return q.mountsFor(false)
	}
	inFolder := typed[:strings.LastIndex(typed, "/")+1]
	base := q.flags.set.Lookup("mount").Value.String()
	if base != "" {
		base = strings.TrimSuffix(base, "/") + "/"
	}
	m, rest := q.mountOf(base + inFolder)
	if m == nil {
		return q.kvMounts()
	}
	at, err := folder(m.path)
	if err != nil || m.kind != "kv" && m.kind != "kv-v2" && m.kind != "cubbyhole" {
		return nil
	}
	if m.kind == "kv-v2" {
		at = at.below("metadata")
	}
	if rest != "" {
		below, err := folder(rest)
		if err != nil {
			return nil
		}
		at = at.below(below)
	}
	found := q.listed(at, inFolder)
	if command == "list" {
		found = slices.DeleteFunc(found, func(c candidate) bool { return c.whole })
	}
	return found
}

// kvMounts are the mounts that hold secrets by key, as beginnings of paths.
func (q *question) kvMounts() []candidate {
	return slices.DeleteFunc(q.mountNames(), func(c candidate) bool {
		return c.about != "kv" && c.about != "kv-v2" && c.about != "cubbyhole"
	})
}

// tree are the names below a path that lists others, as lease IDs are.
func (q *question) tree(at target, typed string) []candidate {
	inFolder := typed[:strings.LastIndex(typed, "/")+1]
	if inFolder != "" {
		below, err := folder(inFolder)
		if err != nil {
			return nil
		}
		at = at.below(below)
	}
	return q.listed(at, inFolder)
}

// paths are the paths of the API for an operation, or for help.
func (q *question) paths(op, typed string) []candidate {
	inFolder := typed[:strings.LastIndex(typed, "/")+1]
	m, rest := q.mountOf(inFolder)
	if m == nil {
		return q.mountNames()
	}
	found := prefixed(inFolder, q.below(m, op, rest))
	for _, c := range q.mountNames() { // one mount may be below another
		if c.word != m.path && strings.HasPrefix(c.word, inFolder) {
			found = append(found, c)
		}
	}
	return found
}

// below are the next segments behind rest, which ends in a slash or is empty, of
// the paths that a mount serves.
func (q *question) below(m *seenMount, op, rest string) []candidate {
	var found []candidate
	_, known := served[m.kind]
	here := !known              // names are stored here; an engine that this program does not have may do so anywhere
	ends, goesOn := here, false // such a name may be the last segment, or not
	typed := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	if rest == "" {
		typed = nil
	}
	for _, r := range served[m.kind] {
		if op != "help" && r.op != op {
			continue
		}
		next, last, all := r.after(typed)
		switch {
		case all:
			here, ends = true, ends || op != "list"
		case next == "":
		case strings.HasPrefix(next, "{"):
			here, ends, goesOn = true, ends || last, goesOn || !last
		case last:
			found = append(found, wholeWord(next, ""))
		default:
			found = append(found, candidate{next + "/", false, ""})
		}
	}
	if !here {
		return found
	}
	for _, name := range q.stored(m, typed) {
		switch {
		case strings.HasSuffix(name, "/"):
			found = append(found, candidate{name, false, ""})
		case ends:
			found = append(found, wholeWord(name, ""))
		case goesOn:
			found = append(found, candidate{name + "/", false, ""})
		}
	}
	return found
}

// after is the segment of the pattern behind the ones that are typed, and whether
// it is the last; all: the rest may be anything. An empty one: it does not fit.
func (r servedRoute) after(typed []string) (next string, last, all bool) {
	pattern := strings.Split(r.pattern, "/")
	for i, segment := range pattern {
		switch {
		case strings.HasSuffix(segment, "...}"):
			return "", false, true
		case i == len(typed):
			return segment, i == len(pattern)-1, false
		case !strings.HasPrefix(segment, "{") && segment != typed[i]:
			return "", false, false
		}
	}
	return "", false, false
}

// listedElsewhere are the places of names that are listed at another.
var listedElsewhere = map[string]map[string]string{
	"kv-v2":    {"data": "metadata", "subkeys": "metadata", "delete": "metadata", "undelete": "metadata", "destroy": "metadata"},
	"database": {"creds": "roles", "static-creds": "static-roles", "rotate-role": "static-roles", "rotate-root": "config", "reset": "config"},
	"aws":      {"creds": "roles", "sts": "roles", "static-creds": "static-roles"},
	"token":    {"create": "roles"},
}

// stored are the names at a place of a mount.
func (q *question) stored(m *seenMount, typed []string) []string {
	if m.kind == "sys" && len(typed) == 1 && (typed[0] == "mounts" || typed[0] == "auth") {
		var names []string
		for _, c := range q.ofMounts(typed[0] == "auth", "") {
			names = append(names, strings.TrimSuffix(c.word, "/"))
		}
		return names
	}
	at, err := folder(m.path)
	if err != nil {
		return nil
	}
	if len(typed) > 0 {
		place := slices.Clone(typed)
		if elsewhere, moved := listedElsewhere[m.kind][place[0]]; moved {
			place[0] = elsewhere
		}
		below, err := folder(strings.Join(place, "/"))
		if err != nil {
			return nil
		}
		at = at.below(below)
	}
	return q.names(at)
}

// ofMounts are the arguments of the commands for secrets engines and auth methods.
func (q *question) ofMounts(auth bool, name string) []candidate {
	var found []candidate
	if name == "enable" || name == "help" {
		for _, kind := range sortedKeys(served) {
			if slices.Contains(servedMethods, kind) == auth && !slices.Contains(alwaysMounted, kind) && kind != "kv-v2" {
				found = append(found, wholeWord(kind, ""))
			}
		}
		if name == "enable" {
			return found
		}
		for _, method := range sortedKeys(loginUses) {
			found = append(found, wholeWord(method, ""))
		}
	}
	for _, m := range q.seen() {
		if m.auth == auth {
			found = append(found, wholeWord(strings.TrimPrefix(m.path, string(authKind.prefix)), m.kind))
		}
	}
	return found
}

// prefixed puts text in front of each word.
func prefixed(text string, found []candidate) []candidate {
	for i := range found {
		found[i].word = text + found[i].word
	}
	return found
}

// alwaysMounted are the kinds that cannot be mounted again.
var alwaysMounted = []string{"sys", "cubbyhole"}
