//go:build unix

package server

import (
	"os"
	"syscall"
)

// privateFiles has the process make files for its user alone, until restore is
// called. It is for the start, when nothing else makes any.
func privateFiles() (restore func()) {
	before := syscall.Umask(0o177)
	return func() { syscall.Umask(before) }
}

// umask is what the process takes from the permissions of the files that it makes.
func umask() os.FileMode {
	mask := syscall.Umask(0o177)
	syscall.Umask(mask)
	return os.FileMode(mask)
}
