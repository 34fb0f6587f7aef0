package engine

import (
	"context"
	"iter"
	"time"

	"github.com/keyturn/keyturn/internal/rotate"
)

// An Age is when a secret was rotated, and when it must be rotated again.
type Age struct {
	Path     string    // below the mount
	Index    time.Time // its place in the index: the deadline, or the Unix time 0 with a finding
	Rotated  time.Time // zero: unknown
	Deadline time.Time
	Class    rotate.Class  // "": none is given
	Period   time.Duration // 0: none is given
	Finding  string        // why the dates cannot be judged
	FromData bool          // who may only read the secret's metadata must not see it
}

// Tracked says whether a secret has dates or a class by which its rotation can be judged.
type Tracked struct {
	Path    string // below the mount
	Tracked bool
}

// An Aged engine has an index of when its secrets must be rotated. Secrets that a record of
// [rotate] publishes are not in the index, but count as tracked.
type Aged interface {
	// Ages yields the secrets with a place in the index from a time up to, and without, another,
	// by place and path. It begins at a path within the first second.
	Ages(ctx context.Context, from time.Time, path string, to time.Time) iter.Seq2[Age, error]
	// Secrets yields all secrets after a path, by path.
	Secrets(ctx context.Context, after string) iter.Seq2[Tracked, error]
	// Indexing reports whether secrets may still be missing from the index.
	Indexing() bool
}

// A ComplianceQuery asks for one page of what is late.
type ComplianceQuery struct {
	Policies  []string // of the caller, who sees only what they allow to read
	After     string   // the page begins after this cursor; "": at the beginning
	Limit     int
	Untracked bool // list the paths of untracked secrets instead
}

// Compliance is one page of the secrets that are late, the latest first, and then of those whose
// dates cannot be judged.
type Compliance struct {
	Secrets       []LateSecret `json:"secrets"`
	Next          string       `json:"next"`           // the next page begins after it; "": there is none
	Untracked     int          `json:"untracked"`      // secrets without any date or class
	UntrackedMore bool         `json:"untracked_more"` // and more, because not all were counted
	Indexing      []string     `json:"indexing"`       // mounts whose index is not complete yet
}

// A LateSecret is a secret whose rotation is late or cannot be judged, or that is not tracked.
type LateSecret struct {
	Path     string        `json:"path"`
	Place    string        `json:"published_at,omitempty"` // of a record that publishes elsewhere
	Class    rotate.Class  `json:"class"`
	Period   time.Duration `json:"rotation_period"`
	Rotated  time.Time     `json:"last_rotated"`
	Deadline time.Time     `json:"deadline"`
	Late     int64         `json:"late_seconds"`
	Finding  string        `json:"finding"`
}
