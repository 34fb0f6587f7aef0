package mounts

import (
	"crypto/rand"
	"encoding/hex"

	"github.com/keyturn/keyturn/internal/mount"
)

// NewUUID is a random version 4 UUID.
func NewUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// NewAccessor is a mount's accessor, as Vault forms it: kv_1a2b3c4d.
func NewAccessor(class, typ string) string {
	var b [4]byte
	_, _ = rand.Read(b[:])
	if class == mount.ClassAuth {
		typ = "auth_" + typ
	}
	return typ + "_" + hex.EncodeToString(b[:])
}

// enginePrefix precedes the keys of an engine's rows.
func enginePrefix(uuid string) string { return "mount/" + uuid + "/" }
