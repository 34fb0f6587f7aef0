package logs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/server/config"
)

// stamp is the time in the name of an old file. It sorts as the times do.
const stamp = "20060102T150405.000000000Z"

// A file is a log file that is rotated by size and age. It is not safe for concurrent use.
type file struct {
	path  string // the folder, then base and ext
	base  string
	ext   string
	limit int64
	every time.Duration
	keep  int // old files; 0: all, below zero: none

	f     *os.File // nil after a failure; each write tries again
	size  int64
	began time.Time
}

// openFile opens the file of c. As in Vault, a folder means vault.log in it, and a name without an
// extension gets .log.
func openFile(c config.Log) (*file, error) {
	path := c.File
	if info, err := os.Stat(path); strings.HasSuffix(path, string(filepath.Separator)) || err == nil && info.IsDir() {
		path = filepath.Join(path, "vault.log")
	}
	if filepath.Ext(path) == "" {
		path += ".log"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("log_file: %w", err)
	}
	name, ext := filepath.Base(path), filepath.Ext(path)
	l := &file{path: path, base: strings.TrimSuffix(name,
		ext), ext: ext, limit: c.RotateBytes, every: c.RotateEvery, keep: c.MaxFiles}
	if err := l.open(); err != nil {
		return nil, fmt.Errorf("log_file: %w; make its folder, writable for the server's user, or name another file",
			err)
	}
	return l, nil
}

// open opens the file to append.
func (l *file) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size, l.began = f, info.Size(), time.Now()
	if l.size > 0 {
		l.began = born(f, info)
	}
	return nil
}

func (l *file) close() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}

func (l *file) reopen() error {
	if err := l.close(); err != nil {
		return err
	}
	return l.open()
}

// write appends a line, and rotates the file first if it is due.
func (l *file) write(line []byte) error {
	if l.f == nil {
		if err := l.open(); err != nil {
			return err
		}
	}
	var kept error // why rotation failed, after which the old file is still used
	full := l.limit > 0 && l.size > 0 && l.size+int64(len(line)) > l.limit
	if full || l.every > 0 && l.size > 0 && time.Since(l.began) >= l.every {
		if kept = l.rotate(); l.f == nil {
			return kept
		}
	}
	n, err := l.f.Write(line)
	l.size += int64(n)
	return errors.Join(kept, err)
}

// rotate renames or removes the file, and creates a new one. If it fails, the old one is reopened,
// and rotated later.
func (l *file) rotate() error {
	err := l.close()
	if l.keep < 0 {
		err = errors.Join(err, os.Remove(l.path))
	} else {
		err = errors.Join(err, os.Rename(l.path, l.aside(time.Now())))
	}
	if errors.Is(err, os.ErrNotExist) { // another program has moved it
		err = nil
	}
	if opening := l.open(); opening != nil {
		return errors.Join(err, opening)
	}
	l.size, l.began = 0, time.Now()
	return errors.Join(err, l.prune())
}

// aside is the name of the rotated file.
func (l *file) aside(now time.Time) string {
	return filepath.Join(filepath.Dir(l.path), l.base+"-"+now.UTC().Format(stamp)+l.ext)
}

// prune removes the oldest of too many rotated files, which it recognises by the time in their
// names.
func (l *file) prune() error {
	if l.keep <= 0 {
		return nil
	}
	dir := filepath.Dir(l.path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var old []string
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), l.base+"-")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if text, ok = strings.CutSuffix(text, l.ext); !ok {
			continue
		}
		if when, err := time.Parse(stamp, text); err == nil && when.Format(stamp) == text {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for len(old) > l.keep {
		if err := os.Remove(filepath.Join(dir, old[0])); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		old = old[1:]
	}
	return nil
}
