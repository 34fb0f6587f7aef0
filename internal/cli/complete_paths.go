package cli

import (
	"context"
	"slices"
	"strings"
)

// visibleMounts returns the mounts that the token may see. It reads them once. The mount sys/ is
// always among them, even when the server does not answer.
func (comp *completion) visibleMounts() []visibleMount {
	if comp.mountsLoaded {
		return comp.mounts
	}
	comp.mountsLoaded = true
	comp.mounts = []visibleMount{{path: "sys/", kind: "sys"}}
	comp.query(func(ctx context.Context, c *client) error {
		sec, err := c.read(ctx, "sys/internal/ui/mounts", nil)
		if sec == nil {
			return err
		}
		for _, class := range []string{"secret", "auth"} {
			mounts, _ := sec.Data[class].(map[string]any)
			eachMount(mounts, func(path string, mount map[string]any) {
				m := visibleMount{path: path, kind: text(mount["type"]), auth: class == "auth"}
				if options, _ := mount["options"].(map[string]any); options["version"] == "2" {
					m.kind = "kv-v2"
				}
				if m.auth {
					m.path = string(authKind.prefix) + path
				}
				if m.path != "sys/" {
					comp.mounts = append(comp.mounts, m)
				}
			})
		}
		return err
	})
	return comp.mounts
}

// mountsFor returns the candidates for -mount: the mounts of the rotation or key-value engine.
func (comp *completion) mountsFor(rotation bool) []candidate {
	var found []candidate
	for _, m := range comp.visibleMounts() {
		if rotation && m.kind == "rotation" || !rotation && (m.kind == "kv" || m.kind == "kv-v2") {
			found = append(found, wholeWord(strings.TrimSuffix(m.path, "/"), m.kind))
		}
	}
	return found
}

// mountOf returns the mount of a path, and the path below it; nil if no visible mount has it.
func (comp *completion) mountOf(path string) (*visibleMount, string) {
	var best *visibleMount
	for i, m := range comp.visibleMounts() {
		if strings.HasPrefix(path, m.path) && (best == nil || len(m.path) > len(best.path)) {
			best = &comp.mounts[i]
		}
	}
	if best == nil {
		return nil, ""
	}
	return best, strings.TrimPrefix(path, best.path)
}

// mountNames returns the mounts as beginnings of paths.
func (comp *completion) mountNames() []candidate {
	var found []candidate
	for _, m := range comp.visibleMounts() {
		found = append(found, partOfWord(m.path, m.kind))
	}
	return found
}

// secretPaths returns the paths of secrets, for the kv commands.
func (comp *completion) secretPaths(command, typed string) []candidate {
	if len(comp.args) > 0 {
		return nil
	}
	if command == "enable-versioning" {
		return comp.mountsFor(false)
	}
	inFolder := typed[:strings.LastIndex(typed, "/")+1]
	base := comp.flags.set.Lookup("mount").Value.String()
	if base != "" {
		base = strings.TrimSuffix(base, "/") + "/"
	}
	m, rest := comp.mountOf(base + inFolder)
	if m == nil {
		return comp.kvMounts()
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
	found := comp.list(at, inFolder)
	if command == "list" {
		found = slices.DeleteFunc(found, func(c candidate) bool { return c.whole })
	}
	return found
}

// kvMounts returns the mounts that store secrets by key, as beginnings of paths.
func (comp *completion) kvMounts() []candidate {
	return slices.DeleteFunc(comp.mountNames(), func(c candidate) bool {
		return c.about != "kv" && c.about != "kv-v2" && c.about != "cubbyhole"
	})
}

// tree returns the names below a path that can be listed at every level, such as lease IDs.
func (comp *completion) tree(at target, typed string) []candidate {
	inFolder := typed[:strings.LastIndex(typed, "/")+1]
	if inFolder != "" {
		below, err := folder(inFolder)
		if err != nil {
			return nil
		}
		at = at.below(below)
	}
	return comp.list(at, inFolder)
}

// paths returns the paths of the API for an operation, or for help.
func (comp *completion) paths(op, typed string) []candidate {
	inFolder := typed[:strings.LastIndex(typed, "/")+1]
	m, rest := comp.mountOf(inFolder)
	if m == nil {
		return comp.mountNames()
	}
	found := prefixed(inFolder, comp.below(m, op, rest))
	for _, c := range comp.mountNames() { // one mount may be below another
		if c.word != m.path && strings.HasPrefix(c.word, inFolder) {
			found = append(found, c)
		}
	}
	return found
}

// below returns the segments that may follow rest in the paths that a mount serves. rest is empty
// or ends in a slash.
func (comp *completion) below(m *visibleMount, op, rest string) []candidate {
	var found []candidate
	_, known := served[m.kind]
	here := !known              // names are stored here; an unknown engine may store them anywhere
	ends, goesOn := here, false // a stored name may be the last segment, or more may follow
	typed := strings.Split(strings.TrimSuffix(rest, "/"), "/")
	if rest == "" {
		typed = nil
	}
	for _, r := range served[m.kind] {
		if op != "help" && r.op != op {
			continue
		}
		next, last, all := r.nextSegment(typed)
		switch {
		case all:
			here, ends = true, ends || op != "list"
		case next == "":
		case strings.HasPrefix(next, "{"):
			here, ends, goesOn = true, ends || last, goesOn || !last
		case last:
			found = append(found, wholeWord(next, ""))
		default:
			found = append(found, partOfWord(next+"/", ""))
		}
	}
	if !here {
		return found
	}
	for _, name := range comp.stored(m, typed) {
		switch {
		case strings.HasSuffix(name, "/"):
			found = append(found, partOfWord(name, ""))
		case ends:
			found = append(found, wholeWord(name, ""))
		case goesOn:
			found = append(found, partOfWord(name+"/", ""))
		}
	}
	return found
}

// nextSegment returns the segment of the pattern after the typed segments, and whether it is the
// last. all means that the rest may be anything. The segment is empty if the pattern does not
// match.
func (r servedRoute) nextSegment(typed []string) (next string, last, all bool) {
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

// listedElsewhere maps the first segment of a path to the segment at which its names are listed.
var listedElsewhere = map[string]map[string]string{
	"kv-v2": {"data": "metadata", "subkeys": "metadata", "delete": "metadata", "undelete": "metadata",
		"destroy": "metadata"},
	"database": {"creds": "roles", "static-creds": "static-roles", "rotate-role": "static-roles",
		"rotate-root": "config", "reset": "config"},
	"aws":   {"creds": "roles", "sts": "roles", "static-creds": "static-roles"},
	"token": {"create": "roles"},
}

// stored returns the names that are stored at a path of a mount.
func (comp *completion) stored(m *visibleMount, typed []string) []string {
	if m.kind == "sys" && len(typed) == 1 && (typed[0] == "mounts" || typed[0] == "auth") {
		var names []string
		for _, c := range comp.mountArguments(typed[0] == "auth", "") {
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
	return comp.names(at)
}

// mountArguments returns the arguments of the commands for secrets engines and auth methods.
func (comp *completion) mountArguments(auth bool, name string) []candidate {
	var found []candidate
	if name == "enable" || name == "help" {
		for _, kind := range sortedKeys(served) {
			if slices.Contains(servedMethods, kind) == auth && !slices.Contains(alwaysMounted, kind) &&
				kind != "kv-v2" {
				found = append(found, wholeWord(kind, ""))
			}
		}
		if name == "enable" {
			return found
		}
		for _, method := range sortedKeys(loginUsages) {
			found = append(found, wholeWord(method, ""))
		}
	}
	for _, m := range comp.visibleMounts() {
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

// alwaysMounted are the kinds that have one fixed mount and cannot be mounted again.
var alwaysMounted = []string{"sys", "cubbyhole"}
