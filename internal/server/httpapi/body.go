package httpapi

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

const (
	// smallBody is what any client may make the server hold.
	smallBody = 1 << 20
	// maxLarge is how many bodies above smallBody are held at once: half a
	// gigabyte at the default limit, whoever sends them.
	maxLarge = 16
	// maxPooled is the size above which a buffer is not reused, so that a large body does not stay
	// in memory.
	maxPooled = 64 << 10
)

var buffers = sync.Pool{New: func() any { return new(buffer) }}

// release wipes the buffer, and returns it to the pool.
func (h *Handler) release(b *buffer) {
	if b == nil {
		return
	}
	if b.large {
		h.large.Add(-1)
	}
	clear(b.Bytes())
	if b.Cap() > maxPooled {
		return
	}
	b.Reset()
	b.large = false
	buffers.Put(b)
}

// readBody reads the body, if the request can have one, and checks it: it must be a JSON object
// within the limits. "null", which clients send for no data, and white space count as no body. The
// content type is ignored, because curl always sends "form".
func (h *Handler) readBody(x *call, w http.ResponseWriter, r *http.Request, limit int64) error {
	if r.ContentLength == 0 {
		return nil
	}
	if x.request.Op == route.Read || x.request.Op == route.List {
		x.request.Warn("the body was ignored: this method has none")
		return nil
	}
	if r.ContentLength > limit {
		return tooLarge(limit)
	}
	b := buffers.Get().(*buffer)
	x.body = b
	if err := h.fillInTime(x, w, r, limit); err != nil {
		return err
	}
	text := bytes.TrimSpace(b.Bytes())
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	if err := wire.Check(text, x.settings.JSON); err != nil {
		return err
	}
	if text[0] != '{' {
		return invalid("the request's body must be a JSON object")
	}
	// one reading of what is meant, for the handler and for audit
	if len(x.request.Query) > 0 && len(bytes.TrimSpace(text[1:])) > 1 {
		return invalid("the request has parameters in its body and in its query string; send all of them in one")
	}
	if len(x.request.Query) > 0 {
		return nil
	}
	x.request.Body = text
	return nil
}

// fillInTime reads the body until the deadline for reading a request. It removes the deadline
// afterwards, because the server continues to read the connection, to notice when the client hangs
// up.
func (h *Handler) fillInTime(x *call, w http.ResponseWriter, r *http.Request, limit int64) error {
	bound := x.settings.ReadTime
	if bound == 0 || bound >= x.settings.MaxTime {
		return h.fill(x.body, r, limit)
	}
	control := http.NewResponseController(w)
	if err := supported(control.SetReadDeadline(x.request.Time.Add(bound))); err != nil {
		return broken(err) // the connection has gone
	}
	if err := h.fill(x.body, r, limit); err != nil {
		return err
	}
	if err := supported(control.SetReadDeadline(x.request.Time.Add(x.settings.MaxTime))); err != nil {
		return broken(err)
	}
	return nil
}

// fill reads at most limit bytes. The buffer grows with the received bytes, not with the announced
// length.
func (h *Handler) fill(b *buffer, r *http.Request, limit int64) error {
	small := min(limit, smallBody)
	if n := r.ContentLength; n > 0 {
		b.Grow(int(min(n, small)) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(r.Body, small+1)); err != nil {
		return broken(err)
	}
	if int64(b.Len()) <= small {
		return nil
	}
	if int64(b.Len()) > limit {
		return tooLarge(limit)
	}
	b.large = true
	if h.large.Add(1) > maxLarge {
		return fault.New("httpapi", fault.Unavailable, "too many large requests are under way; try again")
	}
	if _, err := b.ReadFrom(io.LimitReader(r.Body, limit+1-int64(b.Len()))); err != nil {
		return broken(err)
	}
	if int64(b.Len()) > limit {
		return tooLarge(limit)
	}
	return nil
}

func tooLarge(limit int64) error {
	return fault.New("httpapi", fault.TooLarge,
		"the request's body is larger than %d bytes; send less, or raise the listener's max_request_size", limit)
}

// broken returns why a body was not received completely.
func broken(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fault.New("httpapi", fault.Timeout, "the request's body did not come in time; send it again")
	}
	return invalid("the request's body did not come whole; send it again")
}
