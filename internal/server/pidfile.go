package server

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// writePID writes the process's ID to a file; "": none. The returned function removes the file,
// unless another process has written its own ID meanwhile.
func writePID(path string) (remove func() error, err error) {
	if path == "" {
		return func() error { return nil }, nil
	}
	text := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return nil, fmt.Errorf("pid_file: %w; create its folder, writable by the server's user, or name another file",
			err)
	}
	return func() error {
		b, err := readPID(path)
		if errors.Is(err, os.ErrNotExist) || err == nil && strings.TrimSpace(string(b)) != text {
			return nil
		}
		return errors.Join(err, os.Remove(path))
	}, nil
}

// readPID reads as much as an id can have, and more.
func readPID(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	return io.ReadAll(io.LimitReader(f, 64))
}
