package file

import (
	"io/fs"
	"os"

	"github.com/keyturn/keyturn/internal/hostfile"
)

// A file is a device on a regular file.
type file struct {
	path    string
	mode    fs.FileMode
	storage string
	folders hostfile.Folders

	f      *os.File
	id     fs.FileInfo // of f
	closed bool
}

const op = "audit.file"
