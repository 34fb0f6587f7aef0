package pebble

import (
	"encoding/binary"
	"fmt"

	"github.com/keyturn/keyturn/internal/storage"
)

// The first byte of a key in Pebble.
const (
	tagMeta  = 0x00
	tagEntry = 0x01
)

// metaVersion is the key of the newest commit's number.
var metaVersion = append([]byte{tagMeta}, "version"...)

// versionLen is the length of a commit's number, which precedes each value.
const versionLen = 8

// decode copies an entry out of Pebble's buffer.
func decode(key string, raw []byte, withValue bool) (storage.Entry, error) {
	if len(raw) < versionLen {
		return storage.Entry{}, fmt.Errorf("reading %q: %d bytes where a version of %d stands first", key, len(raw),
			versionLen)
	}
	e := storage.Entry{Key: key, Version: storage.Version(binary.BigEndian.Uint64(raw))}
	if e.Version == 0 {
		return storage.Entry{}, fmt.Errorf("reading %q: it has version 0", key)
	}
	if withValue {
		e.Value = make([]byte, len(raw)-versionLen)
		copy(e.Value, raw[versionLen:])
	}
	return e, nil
}
