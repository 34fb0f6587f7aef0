package wire

import "encoding/binary"

// AppendKey appends parts as one key that no other parts have: each stands behind its
// length, so that it does not matter what is in it. It is the one way of making the key of a
// map, a lock or a hash of several texts; joining them by a sign that may be in one of them
// makes one key of two things.
func AppendKey(dst []byte, parts ...string) []byte {
	for _, p := range parts {
		dst = append(binary.AppendUvarint(dst, uint64(len(p))), p...)
	}
	return dst
}

// Key is [AppendKey] as a text.
func Key(parts ...string) string { return string(AppendKey(nil, parts...)) }
