package file

import (
	"bytes"
	"context"
	"io"
	"io/fs"

	"github.com/keyturn/keyturn/internal/audit"
)

// A stream is a device on standard output or error. Because it cannot be read back, it remembers
// what was written by a write that failed.
type stream struct {
	out    io.Writer
	last   []byte // the last whole line of a broken write
	torn   int    // bytes after it, not ended yet
	junk   int    // bytes after it, ended, not yet reported by a later line
	closed bool
}

// Tail ends a torn line. The last line is known only after a broken write.
func (d *stream) Tail() (audit.Tail, error) {
	if d.closed {
		return audit.Tail{}, fs.ErrClosed
	}
	if d.torn > 0 {
		if _, err := d.out.Write([]byte{'\n'}); err != nil {
			return audit.Tail{}, err
		}
		d.junk, d.torn = d.junk+d.torn+1, 0
	}
	return audit.Tail{Line: d.last, Torn: d.junk}, nil
}

// Write writes lines.
func (d *stream) Write(_ context.Context, lines []byte) error {
	if d.closed {
		return fs.ErrClosed
	}
	n, err := d.out.Write(lines)
	if err == nil {
		d.junk = 0
		return nil
	}
	whole := bytes.LastIndexByte(lines[:n], '\n') + 1
	d.torn = n - whole
	if whole > 0 {
		d.junk = 0
		line := lines[:whole-1]
		d.last = bytes.Clone(line[bytes.LastIndexByte(line, '\n')+1:])
	}
	return err
}

// Reopen has nothing to open.
func (d *stream) Reopen() error {
	if d.closed {
		return fs.ErrClosed
	}
	return nil
}

// Close leaves the process's stream open.
func (d *stream) Close() error {
	d.closed = true
	return nil
}

// discard ignores lines. It is for measurements, and for operators who need a device but no log.
type discard struct{}

// Tail implements [audit.Device].
func (discard) Tail() (audit.Tail, error) { return audit.Tail{}, nil }

// Write implements [audit.Device].
func (discard) Write(context.Context, []byte) error { return nil }

// Reopen implements [audit.Device].
func (discard) Reopen() error { return nil }

// Close implements [audit.Device].
func (discard) Close() error { return nil }
