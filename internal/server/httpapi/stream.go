package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/keyturn/keyturn/internal/route"
)

// pieceTime is how long a client may take to read one piece of a stream.
const pieceTime = 30 * time.Second

// stream sends an answer in pieces, until the client hangs up or the server shuts down. The time
// limit of requests does not apply.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, stream route.Stream) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-h.ending:
			cancel()
		case <-ctx.Done():
		}
	}()
	control := http.NewResponseController(w)
	send := func(piece []byte) error {
		if err := supported(control.SetWriteDeadline(time.Now().Add(pieceTime))); err != nil {
			return err
		}
		if _, err := w.Write(piece); err != nil {
			return err
		}
		// Without this, HTTP/2 would end a stream whose deadline passes between two pieces.
		return errors.Join(supported(control.Flush()), supported(control.SetWriteDeadline(time.Time{})))
	}
	// The header says at once that it has begun; reading on notices that the client goes.
	err := errors.Join(supported(control.SetReadDeadline(time.Time{})), send(nil))
	if err == nil {
		err = stream(ctx, send)
	}
	if err != nil {
		h.cfg.Log.Debug("a stream ended", "error", err)
	}
}

// supported ignores that a writer does not support a call, such as one in a test.
func supported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
