package server

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/internal/secret"
)

// writePrivate puts a file of ours alone in the place of what is there, which
// others may be able to read, or a link.
func writePrivate(path string, text secret.Value) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(text.Reveal())
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
