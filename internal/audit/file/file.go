// Package file is the audit device that appends lines to a file, or to the
// process's standard output or error.
//
// A device must not let a client write arbitrary files. Therefore the file must be a regular file,
// not a link, not executable, not below the server's storage; its name must not be one that a
// program executes; and it must be new, empty, or already an audit file. Its folder must not be
// writable by everyone, and must be in audit_folders or, without such a list, not be a system
// folder. While the file is open, it is locked against a second device or server.
//
// The file may be moved or deleted at any time. This is detected before the next write, which goes
// to a new file with the same name. Lines are written with one write(2), and are not synced.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/fault"
)

// Type is the file device. Its options are file_path (or path), which is
// absolute or one of "stdout", "stderr" and "discard", and mode: the file's permissions in
// octal, 0600 unless given; 0000 leaves those of an existing file.
var Type = audit.Type{Name: "file", Open: open}

func open(cfg audit.Config) (audit.Device, error) {
	path, mode := "", fs.FileMode(0o600)
	for name, value := range cfg.Options {
		switch name {
		case "file_path", "path":
			if path != "" && path != value {
				return nil, fault.New(op, fault.Invalid,
					"path: it is given twice, as file_path and path; leave one out")
			}
			path = value
		case "mode":
			m, err := parseMode(value)
			if err != nil {
				return nil, err
			}
			mode = m
		default:
			return nil, fault.New(op, fault.Invalid,
				"%s: the file audit device has no such option; it has file_path and mode, log_raw, hmac_accessor "+
					"and elide_list_responses",
				name)
		}
	}
	switch path {
	case "":
		return nil, fault.New(op, fault.Invalid,
			"file_path: it is missing; give an absolute path, or stdout, stderr or discard")
	case "stdout":
		return &stream{out: os.Stdout}, nil
	case "stderr":
		return &stream{out: os.Stderr}, nil
	case "discard":
		return discard{}, nil
	}
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, fault.New(op, fault.Invalid,
			"file_path: %q is not an absolute path without \".\" and \"..\"; write it from the root on", path)
	}
	d := &file{path: path, mode: mode, storage: cfg.StorageDir, folders: cfg.Folders}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

func parseMode(text string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(text, 8, 32)
	switch {
	case err != nil || n > 0o777:
		return 0, fault.New(op, fault.Invalid, "mode: want permissions in octal, such as 0600 or 0640, got %q", text)
	case n&0o111 != 0:
		return 0, fault.New(op, fault.Invalid, "mode: %q would make the audit file executable; use 0600 or 0640", text)
	case n&0o002 != 0:
		return 0, fault.New(op, fault.Invalid, "mode: %q would let everyone write to the audit file; use 0600 or 0640",
			text)
	case n != 0 && n&0o600 != 0o600:
		return 0, fault.New(op, fault.Invalid,
			"mode: with %q the server could not read and write its own file; use 0600 or 0640", text)
	}
	return fs.FileMode(n), nil
}

// Tail implements [audit.Device].
func (d *file) Tail() (audit.Tail, error) {
	if err := d.follow(); err != nil {
		return audit.Tail{}, err
	}
	info, err := d.f.Stat()
	if err != nil {
		return audit.Tail{}, err
	}
	e, err := readEnd(d.f, info.Size())
	if err != nil {
		return audit.Tail{}, fmt.Errorf("reading the end of %s: %w", d.path, err)
	}
	if e.open {
		if _, err := d.f.Write([]byte{'\n'}); err != nil {
			return audit.Tail{}, err
		}
		e.torn++
	}
	return audit.Tail{Line: e.line, Torn: e.torn}, nil
}

// Write appends lines to the file that currently has the name.
func (d *file) Write(_ context.Context, lines []byte) error {
	if err := d.follow(); err != nil {
		return err
	}
	_, err := d.f.Write(lines)
	return err
}

// Reopen opens a new file if the old one was moved.
func (d *file) Reopen() error { return d.follow() }

// Close closes and unlocks the file.
func (d *file) Close() error {
	if d.closed {
		return fs.ErrClosed
	}
	d.closed = true
	return d.f.Close()
}

// follow makes sure that d.f is the file that currently has the name: it calls lstat before each
// write, and opens a new file if the old one was moved or deleted.
func (d *file) follow() error {
	if d.closed {
		return fs.ErrClosed
	}
	now, err := os.Lstat(d.path)
	switch {
	case err == nil && os.SameFile(now, d.id):
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return d.open()
}

// open opens or creates the file, checks it, and closes the old one.
func (d *file) open() error {
	if err := d.checkFolder(); err != nil {
		return err
	}
	f, err := d.openChecked()
	if err != nil {
		return err
	}
	info, err := d.admit(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	old := d.f
	d.f, d.id = f, info
	if old != nil {
		return old.Close()
	}
	return nil
}
