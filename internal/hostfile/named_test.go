//go:build unix

package hostfile

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// endless is a stream without end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestReadNamed: what is within the limit is read whole, and what is above it is refused with the
// limit, also where it never ends.
func TestReadNamed(t *testing.T) {
	dir := t.TempDir()
	for size, ok := range map[int]bool{0: true, 63: true, 64: true, 65: false} {
		text, err := ReadNamed(put(t, filepath.Join(dir, "f"), strings.Repeat("x", size)), 64)
		if ok != (err == nil) || ok && len(text) != size {
			t.Errorf("%d bytes of 64: read %d, %v", size, len(text), err)
		}
	}
	for limit, want := range map[int]string{100: "100 bytes", 2 << 10: "2 KiB", 3 << 20: "3 MiB"} {
		_, file := ReadNamed("/dev/zero", limit)
		_, stream := ReadStream(endless{}, limit)
		for _, err := range []error{file, stream} {
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "at most "+want) {
				t.Errorf("without end, limit %d: %v", limit, err)
			}
		}
		if _, ok := errors.AsType[*fs.PathError](file); !ok {
			t.Errorf("%v does not name the file", file)
		}
	}
	if _, err := ReadNamed(filepath.Join(dir, "none"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}
