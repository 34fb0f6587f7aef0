package pebble

import (
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options say which folder to open. Zero values, but for Path, are good ones.
type Options struct {
	// Path is the folder. It is made if it is not there.
	Path string
	// FS is where the folder is; nil is the machine's file system. Tests use
	// one in memory that loses power.
	FS vfs.FS
	// FreeSpace tells how many bytes are free on the disk, and how many it has;
	// nil asks the file system.
	FreeSpace func() (free, total uint64, err error)
	// LowWater is the free space below which writes are refused; 0 is a
	// twentieth of the disk, at least 16 and at most 128 MiB.
	LowWater uint64
	// Log receives what the store does by itself; nil is slog.Default.
	Log *slog.Logger
	// CacheBytes is for blocks of tables; 0 is 28 MiB. Less, and the upper
	// levels' indexes and filters of ten million leases are read again and
	// again; more is better spent as the system's page cache, which shrinks
	// when others need it, and ten million leases are to fit 256 MiB.
	CacheBytes int64
}

func (o *Options) setDefaults() {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 28 << 20
	}
}

// pebbleOptions are Pebble's, for one handle.
func pebbleOptions(s *Store, h *handle) *pebble.Options {
	o := &pebble.Options{
		FS:     h.gate,
		Cache:  s.cache,
		Logger: logger{s, h},
		// Fixed, so that only a change here changes what is on the disk: an
		// older binary must be able to open what a newer one of the same
		// layout has written.
		FormatMajorVersion: pebble.FormatTableFormatV6,
		// Opening after a crash replays what is not flushed: 0.13 s for one full
		// table of 8 MiB, at most four of them. 16 MiB took twice that and
		// twice the memory, for commits 7 % faster; smaller ones make more and
		// smaller files to merge.
		MemTableSize:                8 << 20,
		MemTableStopWritesThreshold: 4,
		// Reads look into each file of level 0. Merging earlier than at four
		// costs more writing than it saves reading.
		L0CompactionThreshold: 4,
		L0StopWritesThreshold: 24,
		// One merge always, a second when level 0 falls behind; more would take
		// the processors that serve requests.
		CompactionConcurrencyRange: func() (lower, upper int) { return 1, 2 },
		// A file holds a descriptor; the customary limit is 1,024 and the
		// server's connections need the rest. Ten million leases make some
		// hundred files.
		MaxOpenFiles:  500,
		EventListener: listener(s, h),
	}
	// The values are encrypted and do not shrink; keys have common beginnings,
	// which blocks leave out already. The fastest method takes what is left
	// (index rows, versions), a slower one would find nothing more.
	o.ApplyCompressionSettings(func() pebble.DBCompressionSettings { return pebble.DBCompressionFastest })
	for i := range o.Levels {
		// Ten bits for each key: one absent key in a hundred costs a needless
		// read. At five it would be one in ten; at twenty the filters would
		// take the cache. The last level has none: Pebble's reads of one key do
		// not ask there, and it would be 1.25 bytes on the disk for each key.
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		// Eight rows of a lease. Larger blocks would make each cold read and
		// each cached one dearer, smaller ones the index.
		o.Levels[i].BlockSize = 4 << 10
		o.Levels[i].IndexBlockSize = 32 << 10
	}
	o.Levels[len(o.Levels)-1].FilterPolicy = pebble.NoFilterPolicy
	return o
}

// listener counts damage. Without it Pebble would call Fatalf on the first
// wrong checksum; the read that met it returns an error as it is.
func listener(s *Store, h *handle) *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			s.corruptions.Add(1)
			s.log.Error("the store is damaged", "file", i.Path, "cause", i.Details)
		},
		DiskSlow: func(i pebble.DiskSlowInfo) {
			s.log.Warn("the disk is slow", "file", i.Path, "operation", i.OpType.String(), "since", i.Duration)
		},
		BackgroundError: func(err error) {
			if !h.isDead() {
				s.log.Error("flushing or merging tables", "cause", err)
			}
		},
	}
}

// logger takes what Pebble says.
type logger struct {
	store  *Store
	handle *handle
}

// Infof drops what it is told: the start of each flush and merge.
func (logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	if !l.handle.isDead() {
		l.store.log.Error("storage engine", "cause", fmt.Sprintf(format, args...))
	}
}

// Fatalf must not return: Pebble goes on as if the error had not been.
func (l logger) Fatalf(format string, args ...any) {
	l.store.poison(l.handle, fmt.Errorf("storage engine: "+format, args...))
	l.handle.gate.park()
}
