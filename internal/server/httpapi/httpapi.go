// Package httpapi serves Vault's HTTP API.
//
// A request is limited (body, JSON, headers, time), and gets its ID and its canonical path, before
// anything else reads it; no routing uses another form of the path. Requests are passed to core,
// except those that also work while the server is sealed: health, seal status, leader, init and
// unseal.
//
// Errors leave through one function, which reads the status from one table.
// Clients get the message of a [fault.Error]; the cause goes to the log, under
// the request's id.
//
// There is no state between requests, except pooled buffers, which are wiped, and the number of
// large bodies. There is one handler and no chain of middleware: ServeHTTP shows everything that
// happens to a request.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

var _ http.Handler = (*Handler)(nil)

// New returns a handler.
func New(cfg Config) *Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{cfg: cfg, ending: make(chan struct{})}
	h.Apply(cfg.Settings)
	return h
}

// Apply replaces the settings for future requests. MaxTime and ReadTime must not change, because
// open connections depend on them.
func (h *Handler) Apply(s Settings) {
	s = s.resolved()
	h.settings.Store(&s)
}

// maxHeader is the maximum size of the request line and the headers together.
const maxHeader = 64 << 10

// Server returns the http.Server of h. The caller sets its context, listeners and TLS.
func (h *Handler) Server(t Timeouts) *http.Server {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: t.ReadHeader,
		// The body has its own timeout, see readBody. This one is for the rest of a request that
		// was answered early; it must not be shorter than MaxTime, because it would cancel the
		// request.
		ReadTimeout:                  h.settings.Load().MaxTime,
		WriteTimeout:                 t.Write,
		IdleTimeout:                  t.Idle,
		MaxHeaderBytes:               maxHeader,
		ErrorLog:                     slog.NewLogLogger(h.cfg.Log.Handler(), slog.LevelDebug),
		DisableGeneralOptionsHandler: true,
	}
	// Streams would be waited for. It may be called more than once.
	s.RegisterOnShutdown(sync.OnceFunc(func() { close(h.ending) }))
	return s
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &call{settings: h.settings.Load(), http: r}
	x.request.ID = newID()
	x.request.Time = time.Now()
	stranger := x.identify(r)
	defer h.finish(w, r, x)
	if f := h.cfg.Flights; f != nil {
		f.add(x)
		defer f.remove(x)
	}
	ctx, cancel := context.WithTimeout(r.Context(), x.settings.MaxTime)
	defer cancel()
	answer, err := (*core.Answer)(nil), stranger
	if err == nil {
		answer, err = h.serve(ctx, x, w, r)
	}
	if err != nil {
		answer = h.refusal(ctx, x, err)
	}
	h.answer(w, r, x, answer)
}

// answer sends the answer, and logs the request if configured.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, x *call, a *core.Answer) {
	status := write(w, x.settings, a)
	if a.Stream != nil {
		h.stream(w, r, a.Stream)
	}
	if level := x.settings.LogRequests; level != nil && h.cfg.Log.Enabled(r.Context(), *level) {
		h.cfg.Log.LogAttrs(r.Context(), *level, "completed_request", slog.String("request_id", x.request.ID),
			slog.String("request_method", r.Method), slog.String("request_path", "/v1/"+x.request.Shown()),
			slog.Int("status_code", status),
			slog.Any("client_address", x.request.Remote), slog.Time("start_time", x.request.Time),
			slog.Duration("duration", time.Since(x.request.Time)))
	}
}

// finish releases the buffer. If the handler panicked, it sends an error, logs the stack without
// values, and the server continues.
func (h *Handler) finish(w http.ResponseWriter, r *http.Request, x *call) {
	switch p := recover(); p {
	case nil:
	case http.ErrAbortHandler:
		panic(p)
	default:
		h.answer(w, r, x, h.panicked(x, p))
	}
	h.release(x.body)
}

// serve reads the request, and passes it to a status page or to core.
func (h *Handler) serve(ctx context.Context, x *call, w http.ResponseWriter, r *http.Request) (*core.Answer, error) {
	sent := asSent(r.URL)
	if to := withoutEmptySegments(sent); to != sent && strings.HasPrefix(to, "/v1/") {
		return redirect(w, to, r.URL.RawQuery)
	}
	below, ok := strings.CutPrefix(sent, "/v1/")
	if !ok {
		return nil, h.page(ctx, w, r.URL.Path)
	}
	if answer, err := h.crossOrigin(ctx, w, r); answer != nil || err != nil {
		return answer, err
	}
	if err := h.readHead(x, r, below); err != nil {
		return nil, err
	}
	public, known := statusPages[x.request.Path]
	known = known && x.request.Op != route.Help
	if r.Method == http.MethodHead && !known {
		return nil, fault.New("httpapi", fault.Unsupported, "the method HEAD is served on status pages only; use GET")
	}
	limit := x.settings.MaxBody
	if known {
		limit = min(limit, smallBody)
	}
	if err := h.readBody(x, w, r, limit); err != nil {
		return nil, err
	}
	if known {
		return public(h, ctx, x)
	}
	if x.settings.OpenMetrics && x.request.Path == "sys/metrics" && x.request.Op == route.Read {
		return h.metrics(ctx, &x.request)
	}
	return h.cfg.Backend.Handle(ctx, &x.request)
}

// asSent is the path in the request line. URL.EscapedPath would re-encode a badly encoded path, so
// that it could be interpreted in two ways.
func asSent(u *url.URL) string {
	if u.RawPath != "" {
		return u.RawPath
	}
	return u.EscapedPath()
}

// withoutEmptySegments replaces several slashes by one. Escaped slashes stay, and are refused
// later.
func withoutEmptySegments(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

// redirect redirects the client to the path without empty segments, like the reference server,
// unless that path is refused, too. The client's next request is then checked normally.
func redirect(w http.ResponseWriter, path, query string) (*core.Answer, error) {
	if _, err := route.ParsePath(strings.TrimPrefix(path, "/v1/"), false); err != nil {
		return nil, err
	}
	if route.Redact(path) != path { // the answer would repeat the token, and proxies log it
		return nil,
			invalid(
				"the path is refused: it has an empty segment (two slashes in a row), and it is not redirected " +
					"because a token may follow; write one slash")
	}
	if query != "" {
		path += "?" + query
	}
	w.Header().Set("Location", path)
	return &core.Answer{Status: http.StatusTemporaryRedirect}, nil
}
