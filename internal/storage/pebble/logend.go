package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A logEnd stores the number of the newest commit that is on the disk, outside the log. When
// Pebble replays a log, a wrong byte near its end looks like the place where a crash stopped it,
// and Pebble ignores the rest. With the number, the two can be distinguished.
//
// The number is written after each sync of the log, but not synced itself. After a loss of power
// it may be too small, and then less damage is detected. It is never too large.
type logEnd struct {
	log *slog.Logger

	mu     sync.Mutex // guards the rest
	file   vfs.File   // nil: closed
	newest uint64
	failed bool // the last write failed
}

const (
	logEndName = "LOGEND"
	logEndLen  = versionLen + 4 // the number, and its checksum
)

// openLogEnd reads the number that the last process has left: 0 if the file is missing or torn.
func openLogEnd(o *Options) (*logEnd, error) {
	name := o.FS.PathJoin(o.Path, logEndName)
	w := &logEnd{log: o.Log}
	f, err := o.FS.Open(name)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("opening %s: %w", name, err)
	default:
		text, err := io.ReadAll(io.LimitReader(f, logEndLen+1))
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("reading %s: %w", name, err)
		}
		w.newest = parseLogEnd(text)
	}
	if w.file, err = o.FS.OpenReadWrite(name, vfs.WriteCategoryUnspecified); err != nil {
		return nil, fmt.Errorf("opening %s: %w", name, err)
	}
	return w, nil
}

func parseLogEnd(text []byte) uint64 {
	if len(text) != logEndLen || crc32.ChecksumIEEE(text[:versionLen]) != binary.BigEndian.Uint32(text[versionLen:]) {
		return 0
	}
	return binary.BigEndian.Uint64(text)
}

// note stores the number of a commit that is on the disk. If that fails, commits are accepted
// nevertheless, and the server's log gets one warning.
func (w *logEnd) note(version uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil || version <= w.newest {
		return
	}
	w.newest = version
	text := binary.BigEndian.AppendUint64(make([]byte, 0, logEndLen), version)
	text = binary.BigEndian.AppendUint32(text, crc32.ChecksumIEEE(text))
	_, err := w.file.WriteAt(text, 0)
	if err != nil && !w.failed {
		w.log.Warn("writing LOGEND; until it can be written, a damaged end may go unnoticed", "cause", err)
	}
	w.failed = err != nil
}

// check returns an error if the log that was replayed ends too early.
func (w *logEnd) check(found uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if found >= w.newest {
		return nil
	}
	return fmt.Errorf(
		"the end of the log is damaged or missing: commits up to number %d were stored, and those above %d are "+
			"missing; "+
			"restore a backup, or remove the file %s to go on with what is left", w.newest, found, logEndName)
}

func (w *logEnd) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}
