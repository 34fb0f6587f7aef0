package pebble

import (
	"fmt"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// pebbleOptions returns Pebble's options for the handle of a gate.
func pebbleOptions(g *gate, cache *pebble.Cache, corruptions *atomic.Uint64) *pebble.Options {
	o := &pebble.Options{
		FS:     g,
		Cache:  cache,
		Logger: logger{g},
		// The format only changes here, because an older binary must be able to open what a newer
		// one of the same layout has written.
		FormatMajorVersion: pebble.FormatTableFormatV6,
		// Opening after a crash replays the tables that were not flushed, at most four: 0.13 s for
		// a full one of 8 MiB. 16 MiB took twice as long and twice the memory, for commits that
		// were 7 % faster; smaller ones make more and smaller files to merge.
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		// Reads search each file of level 0. Merging at fewer than four costs more writes than it
		// saves reads.
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 24,
		// One merge always, a second when level 0 falls behind; more would take processor time
		// from requests.
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 2 },
		// Each file uses a descriptor. The usual limit is 1,024, and the server's connections need
		// the rest. Ten million leases make some hundred files.
		MaxOpenFiles:  500,
		EventListener: listener(g, corruptions),
	}
	// The values are encrypted and do not shrink, and blocks omit common beginnings of keys. The
	// fastest method compresses the rest (index rows, versions); a slower one gains nothing more.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	for i := range o.Levels {
		// With ten bits for each key, one absent key in a hundred costs a needless read. With five
		// it would be one in ten; with twenty the filters would fill the cache. The last level has
		// none, because Pebble's reads of one key do not use it, and it would take 1.25 bytes on
		// the disk for each key.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		// Eight rows of a lease. Larger blocks would make each read more expensive, smaller ones
		// the index.
		o.Levels[i].BlockSize = 4 << 10
		o.Levels[i].IndexBlockSize = 32 << 10
	}
	o.Levels[len(o.Levels)-1].FilterPolicy = pebble.NoFilterPolicy
	return o
}

// listener counts damage. Without it, Pebble would call Fatalf at the first wrong checksum; the
// read that found it returns an error anyway.
func listener(g *gate, corruptions *atomic.Uint64) *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			corruptions.Add(1)
			g.log.Error("the store is damaged", "file", i.Path, "cause", i.Details)
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			g.log.Warn("the disk is slow", "file", i.Path, "operation", i.OpType.String(), "since", i.Duration)
		},
		BackgroundError: func(err error) {
			if !isClosed(g.dead) {
				g.log.Error("flushing or merging tables", "cause", err)
			}
		},
	}
}

// logger receives Pebble's messages.
type logger struct{ gate *gate }

// Infof drops the message, for example on the start of each flush and merge.
func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if !isClosed(l.gate.dead) {
		l.gate.log.Error("storage engine", "cause", fmt.Sprintf(format, args...))
	}
}

// Fatalf does not return, because Pebble would continue as if there were no error.
func (l logger) Fatalf(format string, args ...any) {
	l.gate.poison(fmt.Errorf("storage engine: "+format, args...))
	l.gate.park()
}
