package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// ErrTooLarge is the error for a file or stream with more than its limit.
var ErrTooLarge = errors.New("it is too large")

// ReadNamed reads a file that the operator or the user of the command line named, in any folder.
// Because it may be an endless pipe or device, it reads at most limit+1 bytes.
func ReadNamed(path string, limit int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := ReadStream(f, limit)
	if errors.Is(err, ErrTooLarge) {
		err = &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return text, err
}

// ReadStream is ReadNamed for an open stream, such as standard input.
func ReadStream(r io.Reader, limit int) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err == nil && len(text) > limit {
		return nil, fmt.Errorf("%w: at most %s are read", ErrTooLarge, size(limit))
	}
	return text, err
}

func size(n int) string {
	switch {
	case n > 0 && n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n > 0 && n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
