package httpapi

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// statuses maps kinds of error to HTTP statuses, and to messages for errors without one.
var statuses = [...]struct {
	code int
	text string
}{
	fault.Internal:    {http.StatusInternalServerError, "internal error"},
	fault.Invalid:     {http.StatusBadRequest, "the request is not valid"},
	fault.Denied:      {http.StatusForbidden, "permission denied"},
	fault.NotFound:    {http.StatusNotFound, ""}, // Vault's: an empty list
	fault.Conflict:    {http.StatusConflict, "somebody else changed it meanwhile; read it again"},
	fault.Unsupported: {http.StatusMethodNotAllowed, "the operation is not supported on this path"},
	fault.TooLarge:    {http.StatusRequestEntityTooLarge, "the request is too large"},
	fault.Sealed:      {http.StatusServiceUnavailable, "the server is sealed"},
	fault.Unavailable: {http.StatusServiceUnavailable, "the server cannot do this now; try again"},
	// Not 502, which would look like an error of a proxy; Vault also uses 500.
	fault.Upstream: {http.StatusInternalServerError, "the system behind this path failed"},
	fault.Timeout:  {http.StatusGatewayTimeout, "the request took too long; whether it had an effect is not known"},
	fault.Held:     {http.StatusServiceUnavailable, "an operator must decide first"},
}

// Header values that every answer shares. They are never written to.
var (
	noStore  = []string{"no-store"}
	jsonType = []string{"application/json"}
)

// write sends an answer and returns its status. It is the only function that
// writes a status.
func write(w http.ResponseWriter, s *Settings, a *core.Answer) int {
	status := a.Status
	if status == 0 {
		status = http.StatusOK
	}
	head := w.Header()
	if s.Headers != nil {
		s.Headers.set(head, status)
	}
	if s.Hostname != "" {
		head.Set("X-Vault-Hostname", s.Hostname)
	}
	head["Cache-Control"] = noStore
	if len(a.Body) > 0 || a.Stream != nil {
		if a.ContentType == "" {
			head["Content-Type"] = jsonType
		} else {
			head["Content-Type"] = []string{a.ContentType}
		}
		if len(a.Body) > 2048 { // below, net/http finds out by itself
			head["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
		}
	}
	w.WriteHeader(status)
	if len(a.Body) > 0 {
		// If this fails, the client has hung up.
		_, _ = w.Write(a.Body)
	}
	return status
}

// refusal turns an error into an answer, and logs what the client may not read.
func (h *Handler) refusal(ctx context.Context, x *call, err error) *core.Answer {
	kind := fault.KindOf(err)
	if int(kind) >= len(statuses) {
		kind = fault.Internal
	}
	row := statuses[kind]
	text := fault.Message(err)
	if text == "" {
		text = row.text
	}
	if h.logCause(ctx, x, kind, err) && text != "" {
		text += " (the server's log has the cause under request id " + x.request.ID + ")"
	}
	return &core.Answer{Status: row.code, Body: errorBody(text)}
}

func errorBody(text string) []byte {
	if text == "" {
		return []byte(`{"errors":[]}`)
	}
	b := make([]byte, 0, len(text)+24)
	return append(wire.AppendString(append(b, `{"errors":[`...), text), "]}"...)
}

// logCause logs an error that hides a cause, and says whether it did.
func (h *Handler) logCause(ctx context.Context, x *call, kind fault.Kind, err error) bool {
	level := slog.LevelWarn
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return false // the client has hung up, so nobody will ask about it
	case kind == fault.Internal:
		level = slog.LevelError
	case errors.Unwrap(outermost(err)) == nil, kind == fault.NotFound, kind == fault.Denied:
		return false
	case kind == fault.Invalid:
		level = slog.LevelInfo
	}
	q := &x.request
	h.cfg.Log.LogAttrs(ctx, level, "request failed", slog.String("request_id", q.ID),
		slog.String("operation", string(q.Op)),
		slog.String("mount", q.Mount.Path), slog.String("kind", kind.String()),
		slog.Any("error", redactor(x).Error(err)))
	return true
}

// outermost is the [fault.Error] that names the kind, or err.
func outermost(err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e
	}
	return err
}

// redactor knows the secrets in the request, because third parties print what they receive.
func redactor(x *call) *secret.Redactor {
	r := &secret.Redactor{}
	r.Know(x.request.Token)
	if name, value := x.request.Secret(); name != "" {
		r.Know(value)
	}
	if len(x.request.Body) > 0 && len(x.request.Body) <= smallBody {
		var body any
		if json.Unmarshal(x.request.Body, &body) == nil {
			r.Know(stringsOf(nil, body)...)
		}
	}
	return r
}

// maxKnown limits the cost of removing secrets from one error.
const maxKnown = 100

func stringsOf(known []secret.Value, v any) []secret.Value {
	if len(known) >= maxKnown {
		return known
	}
	switch t := v.(type) {
	case string:
		known = append(known, secret.Text(t))
	case []any:
		for _, e := range t {
			known = stringsOf(known, e)
		}
	case map[string]any:
		for _, e := range t {
			known = stringsOf(known, e)
		}
	}
	return known
}

// panicked logs a panic without the values that were in it.
func (h *Handler) panicked(x *call, p any) *core.Answer {
	what := fmt.Sprintf("%T", p)
	if e, ok := errors.AsType[runtime.Error](asError(p)); ok {
		what = e.Error() // names types and indexes only
	}
	h.cfg.Log.Error("a handler panicked; the server goes on", "request_id", x.request.ID, "operation",
		string(x.request.Op),
		"mount", x.request.Mount.Path, "panic", what, "stack", string(debug.Stack()))
	return &core.Answer{
		Status: statuses[fault.Internal].code,
		Body:   errorBody("internal error (the server's log has the cause under request id " + x.request.ID + ")"),
	}
}

func asError(p any) error {
	err, _ := p.(error)
	return err
}

// newID returns a random UUID. It must be unique, but not unguessable, so it uses the runtime's
// generator instead of a system call.
func newID() string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(b[8:], rand.Uint64())
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	var s [36]byte
	hex.Encode(s[:8], b[:4])
	hex.Encode(s[9:13], b[4:6])
	hex.Encode(s[14:18], b[6:8])
	hex.Encode(s[19:23], b[8:10])
	hex.Encode(s[24:], b[10:])
	s[8], s[13], s[18], s[23] = '-', '-', '-', '-'
	return string(s[:])
}
