package barrier

import (
	"context"
	"errors"
	"fmt"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// storeError gives an error of the store its kind; the sentinels still match.
func storeError(op string, err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	e := &fault.Error{Op: op, Kind: fault.Unavailable, Err: err}
	switch {
	case errors.Is(err, storage.ErrConflict):
		e.Kind, e.Msg = fault.Conflict, "it was changed by another request; read it again"
	case errors.Is(err, storage.ErrTooLarge):
		e.Kind = fault.TooLarge
		e.Msg = fmt.Sprintf("too large to store: one write holds at most %d bytes and %d keys", storage.MaxBytes,
			storage.MaxOps)
	case errors.Is(err, storage.ErrFull):
		e.Msg = "the disk is full: reads go on, and writes resume once space is free"
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Msg = fault.Timeout, "the storage did not answer in time; try again"
	case errors.Is(err, context.Canceled):
		e.Kind, e.Msg = fault.Timeout, "the request was given up"
	default:
		e.Msg = "the storage does not work at the moment; try again, and see the server's log"
	}
	return e
}

// damaged is the error of an entry that cannot be decrypted. It contains the key, for the log, but
// nothing of the value.
func damaged(op, key string, why error) error {
	return &fault.Error{Op: op, Kind: fault.Internal, Err: fmt.Errorf("decrypting %q: %w", key, why),
		Msg: "a stored record is damaged; the server's log names it"}
}

func errSealed(op string) error {
	return fault.New(op, fault.Sealed, "the server is sealed; unseal it with `keyturn operator unseal`")
}
