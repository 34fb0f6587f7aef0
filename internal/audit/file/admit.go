package file

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hostfile"
)

// checkFolder refuses folders that are not allowed for audit files, folders that anyone can write
// to, and the storage folder. It checks the text of the path before it accesses the disk.
func (d *file) checkFolder() error {
	if err := d.checkPlace(); err != nil {
		return err
	}
	dir := filepath.Dir(d.path)
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(op, fault.Invalid,
			"file_path: the folder %s does not exist; create it, writable for the server", dir)
	}
	if err != nil {
		return d.refuse("its folder cannot be read", err)
	}
	info, err := os.Stat(real)
	switch {
	case err != nil:
		return d.refuse("its folder cannot be read", err)
	case !info.IsDir():
		return fault.New(op, fault.Invalid, "file_path: %s is not a folder; choose a path in one", dir)
	case openToAll(info.Mode()):
		return fault.New(op, fault.Invalid,
			"file_path: everyone may replace files in the folder %s; take the write permission for others away "+
				"(chmod o-w)",
			dir)
	}
	if err := d.checkListed(real); err != nil {
		return err
	}
	return d.checkStorage(real)
}

// checkPlace refuses a path outside of the listed folders or, without a list, in a system folder.
func (d *file) checkPlace() error {
	dir := filepath.Dir(d.path)
	if len(d.folders) > 0 {
		if !d.folders.Has(d.path) {
			return d.unlisted()
		}
		return nil
	}
	if why := hostfile.System(dir); why != "" {
		return fault.New(op, fault.Invalid,
			"file_path: audit files in %s are refused: %s; choose a folder for logs, such as /var/log/keyturn, or "+
				"ask the operator to list this one in audit_folders",
			dir,
			why)
	}
	return nil
}

// checkListed refuses a folder if a link in the path leads out of the listed folders.
func (d *file) checkListed(real string) error {
	if len(d.folders) == 0 {
		return nil
	}
	held, err := d.folders.Hold(real)
	switch {
	case err != nil:
		return d.refuse("its folders cannot be read", err)
	case !held:
		return d.unlisted()
	}
	return nil
}

func (d *file) unlisted() error {
	return fault.New(op, fault.Invalid,
		"file_path: %s is in none of the folders that the operator allows; choose one that audit_folders in the "+
			"server's configuration lists",
		d.path)
}

// checkStorage walks up from the real folder and compares files, not names, because mounts, links
// or letter case can give a folder two names.
func (d *file) checkStorage(real string) error {
	if d.storage == "" {
		return nil
	}
	storage, err := os.Stat(d.storage)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return d.refuse("the storage folder cannot be read", err)
	}
	for dir := real; ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return d.refuse("its folders cannot be read", err)
		}
		if os.SameFile(info, storage) {
			return fault.New(op, fault.Invalid,
				"file_path: %s is inside the server's storage folder; choose a folder outside of it", d.path)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// openChecked opens the file without following a link and without blocking, or creates it. It
// opens only regular files, because opening a device can have effects.
func (d *file) openChecked() (*os.File, error) {
	mode := d.mode
	if mode == 0 {
		mode = 0o600
	}
	for range 3 { // the file may appear or vanish meanwhile
		info, err := os.Lstat(d.path)
		flags := os.O_RDWR | os.O_APPEND | openFlags
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if err := d.checkName(); err != nil {
				return nil, err
			}
			flags |= os.O_CREATE | os.O_EXCL
		case err != nil:
			return nil, d.refuse("it cannot be read", err)
		case !info.Mode().IsRegular():
			return nil, d.notRegular()
		}
		f, err := os.OpenFile(d.path, flags, mode)
		switch {
		case err == nil:
			return f, nil
		case !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist):
			return nil, d.refuse("it cannot be opened", err)
		}
	}
	return nil, d.refuse("it keeps appearing and vanishing", nil)
}

// admit checks the opened file and locks it. It changes nothing about a file that it refuses.
func (d *file) admit(f *os.File) (fs.FileInfo, error) {
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, d.refuse("it cannot be read", err)
	case !info.Mode().IsRegular():
		return nil, d.notRegular()
	case executable(info.Mode()):
		return nil, fault.New(op, fault.Invalid, "file_path: %s is executable; choose another path", d.path)
	case !ownerTrusted(info):
		return nil, fault.New(op, fault.Invalid,
			"file_path: %s belongs to another user, who could read and change it; move it away or choose another path",
			d.path)
	}
	if err := lock(f); err != nil {
		return nil, d.refuse("another audit device or another server is writing to it", err)
	}
	e, err := readEnd(f, info.Size())
	if err != nil {
		return nil, d.refuse("it cannot be read", err)
	}
	if !e.ours {
		return nil, fault.New(op, fault.Invalid,
			"file_path: %s exists and is not an audit file; move it away or choose another path", d.path)
	}
	if err := d.checkName(); err != nil {
		return nil, err
	}
	if d.mode != 0 && info.Mode().Perm() != d.mode {
		if err := f.Chmod(d.mode); err != nil {
			return nil, d.refuse("its mode cannot be changed", err)
		}
	}
	return info, nil
}

// endings are the allowed endings of an audit file's name. Lines contain texts that callers chose,
// and no program executes or loads a file with such an ending, as shells, linkers and cron do with
// others.
var endings = []string{".log", ".json", ".jsonl", ".ndjson"}

func (d *file) checkName() error {
	name := filepath.Base(d.path)
	if ext := filepath.Ext(name); ext == name || !slices.Contains(endings, ext) {
		return fault.New(op, fault.Invalid,
			"file_path: %s must end in .log, .json, .jsonl or .ndjson, so that no program takes the audit file for "+
				"its own; choose such a name",
			d.path)
	}
	return nil
}

func (d *file) notRegular() error {
	return fault.New(op, fault.Invalid,
		"file_path: %s is not a regular file; give a file's path, or stdout, stderr or discard", d.path)
}

// refuse returns an error with the system's error as its cause, for the log.
func (d *file) refuse(why string, err error) error {
	return &fault.Error{Op: op, Kind: fault.Invalid, Msg: "file_path: " + d.path + ": " + why, Err: err}
}
