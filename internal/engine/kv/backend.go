package kv

import (
	"hash/maphash"
	"sync"

	"github.com/keyturn/keyturn/internal/engine"
)

// backend is the part that both versions share.
type backend struct {
	m    *engine.Mount
	seed maphash.Seed
	// latches serialize the writers of one path, so that writes without CAS do not conflict
	// repeatedly. Each is locked during a commit. With 256, 7 of 64 writers waited for the writer
	// of another path; 2048 use 16 KiB per mount.
	latches [2048]sync.Mutex
}

func (b *backend) latch(path string) func() {
	l := b.latchOf(path)
	l.Lock()
	return l.Unlock
}

func (b *backend) latchOf(path string) *sync.Mutex {
	return &b.latches[maphash.String(b.seed, path)%uint64(len(b.latches))]
}

// Close has nothing to close.
func (b *backend) Close() error { return nil }

type pathIn struct {
	Path string `path:"path" doc:"The secret's path."`
}
