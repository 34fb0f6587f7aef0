package pebble

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options of a store. Only Path is required.
type Options struct {
	Path string // the folder; created if it does not exist
	// FS is the file system of the folder; nil: the machine's. Tests use one in memory that loses
	// power.
	FS vfs.FS
	// FreeSpace returns how many bytes of the disk are free, and its size; nil: as the file system
	// says.
	FreeSpace func() (free, total uint64, err error)
	// LowWater is the free space below which writes are refused; 0: a twentieth of the disk, at
	// least 16 and at most 128 MiB.
	LowWater uint64
	// Log receives messages about what the store does without a request; nil: slog.Default.
	Log *slog.Logger
	// CacheBytes limits the cache for blocks of tables; 0: 28 MiB. With less, the upper levels'
	// indexes and filters of ten million leases are read repeatedly. More is better used as the
	// system's page cache, which shrinks when other processes need memory; and ten million leases
	// must fit into 256 MiB.
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
