// Package mount is the mount table: records in the store, and an immutable table that routes
// requests.
//
// A record is stored at core/mount/<uuid>; a login method's path starts with "auth/". No path is a
// prefix of another, so at most one mount serves a path. A disabled mount stays as a tombstone,
// which only its UUID leads to, until its last lease ends; its path is free at once.
package mount

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Prefix of the records' keys.
const Prefix = "core/mount/"

// Classes of mounts.
const (
	ClassSecret = "secret"
	ClassAuth   = "auth"
)

// An Entry is the record of one mount. It is immutable; changes create a copy.
type Entry struct {
	UUID        string            `json:"uuid"`
	Accessor    string            `json:"accessor"`
	Namespace   string            `json:"namespace,omitempty"` // reserved: empty is root
	Path        string            `json:"path"`                // "database/", "auth/token/"
	Class       string            `json:"class"`
	Type        string            `json:"type"`
	Description string            `json:"description,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Local       bool              `json:"local,omitempty"`
	SealWrap    bool              `json:"seal_wrap,omitempty"`
	Tune        Tune              `json:"tune"`
	Created     time.Time         `json:"created"`
	// Gone is when it was disabled; since then, its engine only revokes.
	Gone time.Time `json:"gone,omitzero"`
	// Inherits: when the mount came to its path, something was published below it already. It goes
	// on to be published here.
	Inherits bool `json:"inherits,omitempty"`
	// Version is that of the stored record. Commits that depend on the mount assert it.
	Version storage.Version `json:"-"`
}

// Tune is what sys/mounts/<path>/tune sets.
type Tune struct {
	DefaultTTL             time.Duration `json:"default_ttl,omitempty"` // 0: the system's
	MaxTTL                 time.Duration `json:"max_ttl,omitempty"`
	ForceNoCache           bool          `json:"force_no_cache,omitempty"`
	AuditClearRequest      []string      `json:"audit_non_hmac_request_keys,omitempty"`
	AuditClearResponse     []string      `json:"audit_non_hmac_response_keys,omitempty"`
	ListingVisibility      string        `json:"listing_visibility,omitempty"`
	PassthroughHeaders     []string      `json:"passthrough_request_headers,omitempty"`
	AllowedResponseHeaders []string      `json:"allowed_response_headers,omitempty"`
	TokenType              string        `json:"token_type,omitempty"`
}

// Key is the storage key of the entry.
func (e *Entry) Key() string { return Prefix + e.UUID }

// Expect is the assertion that the record has not changed since it was read.
func (e *Entry) Expect() storage.Op { return storage.Expect(e.Key(), e.Version) }

// Encode is the entry's stored form.
func (e *Entry) Encode() ([]byte, error) { return json.Marshal(e) }

// Decode reads a stored entry.
func Decode(row storage.Entry) (*Entry, error) {
	e := &Entry{Version: row.Version}
	if err := json.Unmarshal(row.Value, e); err != nil {
		return nil, fault.Wrap("mount.Decode", fault.Internal, err)
	}
	return e, nil
}

var segment = regexp.MustCompile(`^[A-Za-z0-9._@:~-]+$`)

// CleanPath returns the path of a mount in its stored form, with one slash at the end and none at
// the beginning. Names are limited to letters, digits and . _ @ : ~ - because they occur in
// policies, lease IDs and file names.
func CleanPath(class, path string) (string, error) {
	p := strings.Trim(path, "/")
	if p == "" || len(p) > 256 {
		return "", fault.New("mount.CleanPath", fault.Invalid, "the mount path %q must have 1 to 256 characters", path)
	}
	for seg := range strings.SplitSeq(p, "/") {
		if !segment.MatchString(seg) || strings.Trim(seg, ".") == "" {
			return "", fault.New("mount.CleanPath", fault.Invalid,
				"the mount path %q may have letters, digits and . _ @ : ~ - only, in segments divided by single "+
					"slashes",
				path)
		}
	}
	if class == ClassAuth {
		return "auth/" + p + "/", nil
	}
	return p + "/", nil
}

// A Table is an immutable set of mounts that finds the mount of a path.
type Table struct {
	byPath map[string]*Entry
	byUUID map[string]*Entry
	root   *node
}

type node struct {
	next  map[string]*node
	entry *Entry
}

// NewTable indexes entries. Two mounts at one path, or one below another, are an error of kind
// Internal, because such a set is never stored.
func NewTable(entries []*Entry) (*Table, error) {
	t := &Table{byPath: map[string]*Entry{}, byUUID: map[string]*Entry{}, root: &node{}}
	for _, e := range entries {
		t.byUUID[e.UUID] = e
		if !e.Gone.IsZero() {
			continue
		}
		if why := t.Conflict(e.Path); why != "" {
			return nil, fault.New("mount.NewTable", fault.Internal, "mount %s: %s", e.UUID, why)
		}
		t.byPath[e.Path] = e
		n := t.root
		for seg := range strings.SplitSeq(strings.TrimSuffix(e.Path, "/"), "/") {
			if n.next == nil {
				n.next = map[string]*node{}
			}
			if n.next[seg] == nil {
				n.next[seg] = &node{}
			}
			n = n.next[seg]
		}
		n.entry = e
	}
	return t, nil
}

// Conflict returns why nothing can be mounted at path, or "".
func (t *Table) Conflict(path string) string {
	n := t.root
	for seg := range strings.SplitSeq(strings.TrimSuffix(path, "/"), "/") {
		if n.entry != nil {
			return fmt.Sprintf("it is below %q, where %s is mounted", n.entry.Path, n.entry.Type)
		}
		if n.next[seg] == nil {
			return ""
		}
		n = n.next[seg]
	}
	if n.entry != nil {
		return fmt.Sprintf("path is already in use at %s: %s is mounted there", path, n.entry.Type)
	}
	return fmt.Sprintf("there are mounts below %q", path)
}

// Find returns the mount that serves a canonical path, or nil.
func (t *Table) Find(path string) *Entry {
	n := t.root
	for rest := path; rest != ""; {
		seg, more, _ := strings.Cut(rest, "/")
		if n = n.next[seg]; n == nil {
			return nil
		}
		if n.entry != nil {
			return n.entry
		}
		rest = more
	}
	return nil
}

// At returns the enabled mount at exactly path, or nil.
func (t *Table) At(path string) *Entry { return t.byPath[path] }

// ByUUID returns a mount, which may be a tombstone, or nil.
func (t *Table) ByUUID(uuid string) *Entry { return t.byUUID[uuid] }

// Live returns the enabled mounts of a class ("": all), sorted by path.
func (t *Table) Live(class string) []*Entry {
	var out []*Entry
	for _, e := range t.byPath {
		if class == "" || e.Class == class {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// All returns every entry, including tombstones.
func (t *Table) All() []*Entry {
	var out []*Entry
	for _, e := range t.byUUID {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b *Entry) int { return strings.Compare(a.UUID, b.UUID) })
	return out
}

// With returns a table in which e replaces the entry with its UUID, or is added.
func (t *Table) With(e *Entry) (*Table, error) {
	all := []*Entry{e}
	for _, old := range t.byUUID {
		if old.UUID != e.UUID {
			all = append(all, old)
		}
	}
	return NewTable(all)
}

// Without returns a table without the entry with this UUID.
func (t *Table) Without(uuid string) (*Table, error) {
	var all []*Entry
	for _, old := range t.byUUID {
		if old.UUID != uuid {
			all = append(all, old)
		}
	}
	return NewTable(all)
}
