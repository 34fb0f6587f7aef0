package kv

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Keys.
const (
	dataPrefix    = "d/" // version 1
	metaPrefix    = "m/"
	versionPrefix = "v/"
	nextPrefix    = "next/"
	configKey     = "config"
)

// versionKey is the key of a version's data. Paths contain no NUL.
func versionKey(path string, n int) string {
	b := make([]byte, 0, len(versionPrefix)+len(path)+11)
	b = append(append(append(b, versionPrefix...), path...), 0)
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], int64(n), 10)
	for range 10 - len(text) {
		b = append(b, '0')
	}
	return string(append(b, text...))
}

// nextKey is the key in the index of ages.
func nextKey(at time.Time, path string) string {
	return fmt.Sprintf("%s%016x/%s", nextPrefix, max(at.Unix(), 0), path)
}

// config is the settings of the mount.
type config struct {
	MaxVersions        int           `json:"max_versions,omitempty"`
	CASRequired        bool          `json:"cas_required,omitempty"`
	DeleteVersionAfter time.Duration `json:"delete_version_after,omitempty"`

	stored storage.Version
}

// record is the metadata of one path.
type record struct {
	Created  time.Time         `json:"c"`
	Updated  time.Time         `json:"u"`
	Current  int               `json:"n"` // the newest version; 0: none yet
	Oldest   int               `json:"o"` // the oldest that is kept; 0: none was removed yet
	Versions []version         `json:"v"` // ascending, without holes
	Settings settings          `json:"s"`
	Custom   map[string]string `json:"m,omitempty"`
	MetaVer  int               `json:"mv,omitempty"` // number of changes of settings and custom metadata
	// Indexed is the deadline of the path's row in the index of ages; zero: it has none.
	Indexed time.Time `json:"ix,omitzero"`
	// Published are the fields to which keys publish, or once did. Core knows the keys. The list
	// outlives the secret.
	Published []string `json:"hd,omitempty"`
	// PublishedKnown: Published is complete. Earlier versions of Keyturn did not maintain it.
	PublishedKnown bool `json:"ht,omitempty"`
	// Vacant: there is no secret at the path; the row exists only for Published.
	Vacant bool `json:"vc,omitempty"`
}

// settings of a path, from its metadata endpoint.
type settings struct {
	MaxVersions        int           `json:"max,omitempty"`
	CASRequired        bool          `json:"cas,omitempty"`
	DeleteVersionAfter time.Duration `json:"dva,omitempty"` // negative: never; overrides the mount
}

// version is one version's metadata.
type version struct {
	N         int       `json:"n"`
	Created   time.Time `json:"c"`
	Deleted   time.Time `json:"d,omitzero"` // when it is, or will be, soft-deleted
	Destroyed bool      `json:"x,omitempty"`
	Next      time.Time `json:"nx,omitzero"` // of the rotation
	Turn      *turn     `json:"t,omitempty"`
}

// turn is the metadata of a version that a rotation published.
type turn struct {
	ID      string        `json:"id"`
	Key     string        `json:"k"`
	Period  time.Duration `json:"p"`
	ReadTTL time.Duration `json:"rt,omitempty"`
}

// unreadable reports whether the version is deleted or destroyed at now.
func (v *version) unreadable(now time.Time) bool {
	return v.Destroyed || !v.Deleted.IsZero() && !now.Before(v.Deleted)
}

func (m *record) find(n int) *version {
	if n == 0 {
		n = m.Current
	}
	i := slices.IndexFunc(m.Versions, func(v version) bool { return v.N == n })
	if i < 0 {
		return nil
	}
	return &m.Versions[i]
}

// visible is the record as readers see it; nil: there is no secret.
func (m *record) visible() *record {
	if m == nil || m.Vacant {
		return nil
	}
	return m
}

// setPublished adds and removes published fields.
func (m *record) setPublished(add, remove []string) {
	published := slices.DeleteFunc(slices.Concat(m.Published, add),
		func(f string) bool { return slices.Contains(remove, f) })
	slices.Sort(published)
	m.Published, m.PublishedKnown = slices.Compact(published), true
}

// mayBePublished reports whether a key publishes to the path, or once did. Records of earlier
// versions of Keyturn do not list the fields until the next publication; until then, every field
// that a write changes is looked up.
func (m *record) mayBePublished() bool {
	return len(m.Published) > 0 ||
		!m.PublishedKnown && slices.ContainsFunc(m.Versions, func(v version) bool { return v.Turn != nil })
}

// readable is the version that readers get; nil: there is none.
func (m *record) readable(now time.Time) *version {
	if m == nil || m.Vacant {
		return nil
	}
	if ver := m.find(0); ver != nil && !ver.unreadable(now) {
		return ver
	}
	return nil
}

// clone returns a copy that may be changed.
func (m *record) clone() *record {
	c := *m
	c.Versions = slices.Clone(m.Versions)
	c.Published = slices.Clone(m.Published)
	return &c
}

// encode writes the same as json.Marshal, at a fifth of the cost, because each write of a secret
// calls it.
func (m *record) encode() ([]byte, error) {
	e := encoder{b: make([]byte, 0, 128+160*len(m.Versions))}
	if m.Vacant {
		e.text(vacantPrefix + `,"c":`)
	} else {
		e.text(`{"c":`)
	}
	e.time(m.Created).text(`,"u":`).time(m.Updated)
	e.text(`,"n":`).int(m.Current).text(`,"o":`).int(m.Oldest)
	if m.Versions == nil {
		e.text(`,"v":null`)
	} else {
		e.text(`,"v":[`)
		for i := range m.Versions {
			if i > 0 {
				e.text(",")
			}
			e.version(&m.Versions[i])
		}
		e.text("]")
	}
	if e.text(`,"s":`); m.Settings == (settings{}) {
		e.text("{}")
	} else {
		e.json(m.Settings)
	}
	if len(m.Custom) > 0 {
		e.text(`,"m":`).json(m.Custom)
	}
	if m.MetaVer != 0 {
		e.text(`,"mv":`).int(m.MetaVer)
	}
	e.optionalTime(`,"ix":`, m.Indexed)
	if len(m.Published) > 0 {
		e.text(`,"hd":`).json(m.Published)
	}
	if m.PublishedKnown {
		e.text(`,"ht":true`)
	}
	e.text("}")
	if e.err != nil {
		return nil, fault.Wrap("kv.encode", fault.Internal, e.err)
	}
	return e.b, nil
}

// An encoder writes parts of a record.
type encoder struct {
	b   []byte
	err error // the first
}

func (e *encoder) version(v *version) {
	e.text(`{"n":`).int(v.N).text(`,"c":`).time(v.Created).optionalTime(`,"d":`, v.Deleted)
	if v.Destroyed {
		e.text(`,"x":true`)
	}
	e.optionalTime(`,"nx":`, v.Next)
	if v.Turn != nil {
		e.text(`,"t":`).json(v.Turn)
	}
	e.text("}")
}

func (e *encoder) text(s string) *encoder { e.b = append(e.b, s...); return e }

func (e *encoder) int(n int) *encoder { e.b = strconv.AppendInt(e.b, int64(n), 10); return e }

func (e *encoder) time(t time.Time) *encoder {
	if y := t.Year(); y < 0 || y > 9999 { // RFC 3339 has no such year
		e.err = cmp.Or(e.err, fmt.Errorf("a time in the year %d", y))
	}
	e.b = append(t.AppendFormat(append(e.b, '"'), time.RFC3339Nano), '"')
	return e
}

// optionalTime writes name and t, unless t is zero.
func (e *encoder) optionalTime(name string, t time.Time) *encoder {
	if t.IsZero() {
		return e
	}
	return e.text(name).time(t)
}

// json writes members that are rare or short.
func (e *encoder) json(v any) *encoder {
	b, err := json.Marshal(v)
	e.b, e.err = append(e.b, b...), cmp.Or(e.err, err)
	return e
}

func decodeRecord(b []byte) (*record, error) {
	m := new(record)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fault.Wrap("kv.decodeRecord", fault.Internal, err)
	}
	return m, nil
}

// vacantPrefix is the beginning of a vacant record, so that a list need not decode it.
const vacantPrefix = `{"vc":true`

func isVacant(e storage.Entry) bool {
	return bytes.HasPrefix(e.Value, []byte(vacantPrefix)) && len(e.Key) > len(metaPrefix) &&
		e.Key[:len(metaPrefix)] == metaPrefix
}

func itoa(n int) string { return strconv.Itoa(n) }
