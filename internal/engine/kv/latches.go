package kv

import (
	"hash/maphash"
	"sync"
)

// latches serialize the writers of one path, so that writes without CAS do not conflict
// repeatedly. Each is locked during a commit. With 256, 7 of 64 writers waited for the writer of
// another path; 2048 use 16 KiB per mount.
type latches struct {
	seed maphash.Seed
	all  *[2048]sync.Mutex
}

func newLatches() latches { return latches{maphash.MakeSeed(), new([2048]sync.Mutex)} }

func (l latches) lock(path string) (unlock func()) {
	m := l.of(path)
	m.Lock()
	return m.Unlock
}

func (l latches) of(path string) *sync.Mutex {
	return &l.all[maphash.String(l.seed, path)%uint64(len(l.all))]
}
