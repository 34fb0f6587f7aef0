package rotate

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// MarkerMax is the length of the longest marker. A marker fits into the shortest label limit
// known among vendors (64).
const MarkerMax = 61

// A Marker identifies one creating call, uniquely and permanently. A marker is put where the
// provider's list shows it, so that after a crash the server can find what the call left. Its
// text is "kt:<installation>/<key>/<turn>/<attempt>".
type Marker struct {
	Installation string // 1 to 8 of a-z 0-9
	Key          string // 1 to 32 of a-z 0-9 . _ -; see [Tag]
	Turn         uint32
	Attempt      uint16
}

var markerForm = regexp.MustCompile(`^kt:([a-z0-9]{1,8})/([a-z0-9._-]{1,32})/(0|[1-9][0-9]{0,9})/(0|[1-9][0-9]{0,4})$`)

// String returns the marker's text.
func (m Marker) String() string {
	return fmt.Sprintf("kt:%s/%s/%d/%d", m.Installation, m.Key, m.Turn, m.Attempt)
}

// IsZero reports whether there is no marker.
func (m Marker) IsZero() bool { return m == Marker{} }

// ParseMarker is the inverse of String. Each marker has exactly one text.
func ParseMarker(text string) (Marker, bool) {
	if len(text) > MarkerMax { // a label of somebody else's
		return Marker{}, false
	}
	p := markerForm.FindStringSubmatch(text)
	if p == nil {
		return Marker{}, false
	}
	turn, err := strconv.ParseUint(p[3], 10, 32)
	if err != nil {
		return Marker{}, false
	}
	attempt, err := strconv.ParseUint(p[4], 10, 16)
	if err != nil {
		return Marker{}, false
	}
	return Marker{p[1], p[2], uint32(turn), uint16(attempt)}, true
}

// Valid reports whether the marker's text can be parsed.
func (m Marker) Valid() bool {
	_, ok := ParseMarker(m.String())
	return ok
}

var plainTag = regexp.MustCompile(`^[a-z0-9_-]{1,32}$`)

// Tag converts a key's name to a marker's Key: the name itself if it fits, else its beginning, a
// dot and the start of its hash. The two forms never collide, because a name that fits has no
// dot.
func Tag(name string) string {
	if plainTag.MatchString(name) {
		return name
	}
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		if b.Len() == 15 {
			break
		}
		if r < 0x80 && plainTag.MatchString(string(r)) {
			b.WriteRune(r)
		}
	}
	sum := sha256.Sum256([]byte(name))
	return b.String() + "." + hex.EncodeToString(sum[:8])
}

// NewTag makes a marker's Key for one record. A key that is deleted and created again, or
// created on two mounts, must not take the other key's leftovers for its own.
func NewTag(name string) string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	base, _, _ := strings.Cut(Tag(name), ".")
	return base[:min(len(base), 23)] + "." + hex.EncodeToString(b[:])
}

// installation returns the part of the installation's ID that goes into markers.
func installation(id string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(id) {
		if (r >= 'a' && r <= 'z' || r >= '0' && r <= '9') && b.Len() < 8 {
			b.WriteRune(r)
		}
	}
	return b.String()
}
