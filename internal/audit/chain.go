package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"strconv"
	"sync"
)

// A Position identifies a line of a device, and all lines before it. The zero Position is before
// the first line.
type Position struct {
	Sequence uint64 `json:"sequence"`
	Hash     string `json:"hash"` // "sha256:<hex>" of the line without its newline
}

// A trailer is the end of a line: its place in the device's chain.
type trailer struct {
	sequence uint64
	previous string // hash of the line before; "" for the first
	torn     int    // bytes between the line before and this one
}

const (
	lineStart  = `{"time":"`
	hashPrefix = "sha256:"
	hashLen    = len(hashPrefix) + 2*sha256.Size

	tornKey     = `,"torn":`
	sequenceKey = `,"sequence":`
	previousKey = `,"previous":"`
)

// A digest is the hash of a line whose body has been hashed. Each line needs the hash of the one
// before, so callers hash the bodies concurrently, and only the trailers are hashed one after the
// other.
type digest struct{ hash.Hash }

var digests = sync.Pool{New: func() any { return &digest{sha256.New()} }}

// begin hashes a rendered entry without its last brace, before which the trailer is inserted.
func begin(body []byte) *digest {
	d := digests.Get().(*digest)
	d.Reset()
	_, _ = d.Write(body[:len(body)-1]) // never fails
	return d
}

// end hashes the trailer, and returns the line's hash.
func (d *digest) end(trailer []byte) string {
	_, _ = d.Write(trailer)
	var sum [sha256.Size]byte
	text := hashText(d.Sum(sum[:0]))
	digests.Put(d)
	return text
}

// appendLine appends a rendered entry, whose digest is d, as the line after p, and returns its
// position.
func appendLine(dst, body []byte, d *digest, p Position, torn int) ([]byte, Position) {
	dst = append(dst, body[:len(body)-1]...)
	from := len(dst)
	if torn > 0 {
		dst = append(dst, tornKey...)
		dst = strconv.AppendInt(dst, int64(torn), 10)
	}
	dst = append(dst, sequenceKey...)
	dst = strconv.AppendUint(dst, p.Sequence+1, 10)
	dst = append(dst, previousKey...)
	dst = append(dst, p.Hash...)
	dst = append(dst, '"', '}')
	next := Position{Sequence: p.Sequence + 1, Hash: d.end(dst[from:])}
	return append(dst, '\n'), next
}

func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hashText(sum[:])
}

func hashText(sum []byte) string {
	var text [hashLen]byte
	return string(hex.AppendEncode(append(text[:0], hashPrefix...), sum))
}

// ParseLine returns the position of a line without its newline; false: it is not a whole line of
// an audit device.
func ParseLine(line []byte) (Position, bool) {
	t, ok := parseTrailer(line)
	if !ok {
		return Position{}, false
	}
	return Position{Sequence: t.sequence, Hash: hashLine(line)}, true
}

// StartsLine reports whether b can be the beginning of a line that was torn.
func StartsLine(b []byte) bool {
	if len(b) < len(lineStart) {
		return len(b) > 0 && bytes.HasPrefix([]byte(lineStart), b)
	}
	return bytes.HasPrefix(b, []byte(lineStart))
}

// parseTrailer reads the end of a line. A string value cannot imitate it, because its quotes are
// escaped.
func parseTrailer(line []byte) (t trailer, ok bool) {
	rest, ok := bytes.CutSuffix(line, []byte(`"}`))
	if !ok || !bytes.HasPrefix(line, []byte(lineStart)) {
		return t, false
	}
	at := bytes.LastIndex(rest, []byte(previousKey))
	if at < 0 {
		return t, false
	}
	t.previous = string(rest[at+len(previousKey):])
	rest = rest[:at]
	rest, n, ok := cutNumber(rest, sequenceKey)
	if !ok || n == 0 {
		return t, false
	}
	t.sequence = n
	if _, n, ok := cutNumber(rest, tornKey); ok && n < 1<<40 {
		t.torn = int(n)
	}
	if t.previous != "" && !validHash(t.previous) || t.previous == "" && t.sequence != 1 {
		return t, false
	}
	return t, json.Valid(line)
}

// cutNumber removes key, and the decimal number after it, from the end of b.
func cutNumber(b []byte, key string) (before []byte, n uint64, ok bool) {
	i := len(b)
	for i > 0 && b[i-1] >= '0' && b[i-1] <= '9' {
		i--
	}
	digits := b[i:]
	before, ok = bytes.CutSuffix(b[:i], []byte(key))
	if !ok || len(digits) == 0 || digits[0] == '0' {
		return b, 0, false
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil {
		return b, 0, false
	}
	return before, n, true
}

func validHash(s string) bool {
	if len(s) != hashLen || s[:len(hashPrefix)] != hashPrefix {
		return false
	}
	_, err := hex.DecodeString(s[len(hashPrefix):])
	return err == nil
}
