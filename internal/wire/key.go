package wire

import "encoding/binary"

// AppendKey appends parts as one key that no other parts have, because each follows its length.
// Use it for every key of a map, a lock or a hash that consists of several texts. If they were
// joined with a separator that a text may contain, two different lists could have the same key.
func AppendKey(dst []byte, parts ...string) []byte {
	for _, p := range parts {
		dst = append(binary.AppendUvarint(dst, uint64(len(p))), p...)
	}
	return dst
}

// Key is [AppendKey] as a text.
func Key(parts ...string) string { return string(AppendKey(nil, parts...)) }
