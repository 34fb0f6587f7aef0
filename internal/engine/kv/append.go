package kv

import (
	"math"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
)

// append returns the record with one more version, and the operations that store its data and
// remove versions that are too old.
func (c *config) append(m *record, path string, data []byte, t *turn) (*record, *version, []storage.Op) {
	now := time.Now().UTC()
	next := &record{Created: now}
	if m != nil {
		next = m.clone()
	}
	next.Updated, next.Current = now, next.Current+1
	ver := version{N: next.Current, Created: now, Deleted: next.deletesAt(c, now), Turn: t}
	next.Versions = append(next.Versions, ver)
	ops := []storage.Op{storage.Set(versionKey(path, ver.N), data)}
	// Remove at most 90 at once, because of the limit of a batch; the next write removes more.
	keep := next.versionsToKeep(c)
	for n := 0; len(next.Versions) > keep && n < 90; n++ {
		ops = append(ops, storage.Remove(versionKey(path, next.Versions[0].N)))
		next.Versions = next.Versions[1:]
	}
	if len(next.Versions) >= keep { // from now on, each write removes one
		next.Oldest = next.Versions[0].N
	}
	return next, &next.Versions[len(next.Versions)-1], ops
}

// defaultMaxVersions is the number of versions to keep if neither the mount nor the path sets it.
const defaultMaxVersions = 10

// maxHistoryBytes limits the size of a record's versions, because a record is read and written as
// a whole, and must fit into one commit with the largest secret.
const maxHistoryBytes = 512 << 10

// versionsToKeep returns how many versions the settings keep.
func (m *record) versionsToKeep(c *config) int {
	limit := defaultMaxVersions
	switch {
	case m.Settings.MaxVersions != 0:
		limit = m.Settings.MaxVersions
	case c.MaxVersions != 0:
		limit = c.MaxVersions
	}
	if limit < 0 {
		limit = math.MaxInt
	}
	size := 0
	for n := len(m.Versions) - 1; n >= 0 && len(m.Versions)-n <= limit; n-- { // the newest first
		if size += m.Versions[n].size(); size > maxHistoryBytes {
			return max(len(m.Versions)-1-n, 1)
		}
	}
	return limit
}

// size is the approximate size of the version in the record, in bytes.
func (v *version) size() int {
	n := 100
	if !v.Deleted.IsZero() {
		n += 40
	}
	if !v.Next.IsZero() {
		n += 40
	}
	if v.Turn != nil {
		n += 80 + len(v.Turn.ID) + len(v.Turn.Key)
	}
	return n
}

// deletesAt is when a version written now deletes itself; zero: never.
func (m *record) deletesAt(c *config, now time.Time) time.Time {
	d := c.DeleteVersionAfter
	if s := m.Settings.DeleteVersionAfter; s < 0 || d < 0 {
		return time.Time{}
	} else if s > 0 && (d == 0 || s < d) {
		d = s
	}
	if d == 0 {
		return time.Time{}
	}
	return now.Add(d)
}
