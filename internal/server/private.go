package server

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/keyturn/keyturn/internal/secret"
)

// writePrivate replaces a file, which others may be able to read, or which may be a link, by one
// that only this user can read.
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
