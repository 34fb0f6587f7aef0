// Package hostfile decides which files of this machine a client's request may name.
//
// A client can write a path into a connection string, or into the options of an audit device, and
// the server opens it with its own permissions. A path could thus make the server read a key for
// the client, reveal which files exist, hang on a device, or write a file that another program
// executes. Therefore no file is allowed, unless the operator has listed its folder in the
// server's configuration. Engines and login methods must not open files in any other way;
// internal/arch checks that.
//
// Files that the operator or the user of the command line names are read with [ReadNamed], which
// limits their size. internal/arch checks that, too.
package hostfile

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
)

// MaxSize is the largest file that is read for a client. Certificates and keys are far smaller.
const MaxSize = 1 << 20

// Folders are the folders that the operator has listed, as absolute, clean paths. Their subfolders
// are included. The zero value allows nothing.
type Folders []string

// Read returns the contents of a file that a client named. It refuses a path outside of the
// folders without accessing the disk, so that the error does not reveal whether the file exists.
// Links are followed if they stay in the folder. All failures have the same message; the cause is
// for the log. Errors have the kind Invalid.
func (f Folders) Read(path string) ([]byte, error) {
	folder, rest := f.find(path)
	if folder == "" {
		return nil, fault.New("hostfile.Read", fault.Invalid,
			"files of the server are not read for clients; give the text itself, in PEM form, or let the operator "+
				"list the file's folder in connection_folders")
	}
	text, err := read(folder, rest)
	if err != nil {
		return nil, &fault.Error{
			Op: "hostfile.Read", Kind: fault.Invalid, Err: err,
			Msg: "the file on the server cannot be read; name a regular file of at most 1 MiB that the server's " +
				"user may read",
		}
	}
	return text, nil
}

// Has reports whether the text of path is in one of the folders.
func (f Folders) Has(path string) bool {
	folder, _ := f.find(path)
	return folder != ""
}

// find returns the folder that contains path, and the rest of the path.
func (f Folders) find(path string) (folder, rest string) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0) {
		return "", ""
	}
	for _, folder := range f {
		if rest, ok := below(path, folder); ok && rest != "" {
			return folder, rest
		}
	}
	return "", ""
}

// below returns what path has after folder.
func below(path, folder string) (rest string, ok bool) {
	if path == folder {
		return "", true
	}
	return strings.CutPrefix(path, strings.TrimSuffix(folder, string(filepath.Separator))+string(filepath.Separator))
}

var (
	errKind = errors.New("it is not a regular file")
	errSize = errors.New("it is larger than 1 MiB")
)

func read(folder, rest string) ([]byte, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// Opening anything but a regular file may block forever, or have effects.
	if err := regular(root.Stat(rest)); err != nil {
		return nil, err
	}
	f, err := root.Open(rest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := regular(f.Stat()); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(text) > MaxSize {
		err = errSize
	}
	return text, err
}

func regular(info fs.FileInfo, err error) error {
	if err == nil && !info.Mode().IsRegular() {
		err = errKind
	}
	return err
}

// Hold reports whether dir, whose path has no links, is one of the folders or in one of them. It
// compares files, not paths, because two paths can lead to the same folder.
func (f Folders) Hold(dir string) (bool, error) {
	inside := false
	err := climb(dir, func(info fs.FileInfo) bool {
		for _, folder := range f {
			allowed, err := os.Stat(folder)
			if inside = err == nil && os.SameFile(info, allowed); inside {
				return false
			}
		}
		return true
	})
	return inside, err
}

// climb calls step with dir and the folders above it, until step returns false.
func climb(dir string, step func(info fs.FileInfo) bool) error {
	for {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !step(info) || dir == filepath.Dir(dir) {
			return nil
		}
		dir = filepath.Dir(dir)
	}
}
