// Package logs writes the server's log: to standard error, to a file that is rotated,
// and to watchers (sys/monitor).
//
// A line is formatted once for each form that a receiver wants. The server never waits
// for its log: a watcher that does not keep up loses lines. So does a file that cannot
// be written, and standard error then says so.
package logs

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/server/config"
)

const (
	// maxWatchers limits the cost of watchers.
	maxWatchers = 16
	// backlog is how many lines a watcher may be behind before it loses some.
	backlog = 512
	// complainEvery is how often standard error reports a file that cannot be written.
	complainEvery = time.Minute
)

// Logs is the log of one server. It is safe for concurrent use.
type Logs struct {
	level atomic.Int64 // of the lines for standard error and the file
	floor atomic.Int64 // the lowest that anybody wants: level or a watcher's

	stderr io.Writer
	form   string       // of the standard error and the file
	apart  *slog.Logger // to the standard error alone

	mu       sync.Mutex // guards what follows
	current  slog.Level // of the line that is being written
	written  string     // its form
	file     *file      // nil: there is none
	warned   time.Time  // when its failure was complained of last
	watchers []*watcher
}

type watcher struct {
	level slog.Level
	form  string
	lines chan []byte
}

// Open returns the log that c describes, written to stderr, too.
func Open(c config.Log, stderr io.Writer) (*Logs, error) {
	l := &Logs{stderr: stderr, form: c.Format, apart: slog.New(c.Handler(stderr, config.LevelTrace))}
	l.level.Store(int64(c.Level))
	l.floor.Store(int64(c.Level))
	if c.File == "" {
		return l, nil
	}
	var err error
	l.file, err = openFile(c)
	return l, err
}

// Logger returns the logger.
func (l *Logs) Logger() *slog.Logger {
	h := &handler{logs: l, forms: map[string]slog.Handler{}}
	for _, form := range []string{"text", "json"} {
		h.forms[form] = (&config.Log{Format: form}).Handler(l, floor{l})
	}
	return slog.New(h)
}

// floor is the level below which nothing is formatted.
type floor struct{ *Logs }

// Level implements [slog.Leveler].
func (f floor) Level() slog.Level { return slog.Level(f.floor.Load()) }

// Level returns the log level.
func (l *Logs) Level() slog.Level { return slog.Level(l.level.Load()) }

// SetLevel changes the log level.
func (l *Logs) SetLevel(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level.Store(int64(level))
	l.settleLocked()
}

// settleLocked computes the lowest level that any receiver wants.
func (l *Logs) settleLocked() {
	low := l.level.Load()
	for _, w := range l.watchers {
		low = min(low, int64(w.level))
	}
	l.floor.Store(low)
}

// Watch returns the future lines of at least a level, in a format ("": the log's own), until stop
// is called. A line that is not received in time is lost. ok is false if there are too many
// watchers.
func (l *Logs) Watch(level slog.Level, form string) (lines <-chan []byte, stop func(), ok bool) {
	if form == "" {
		form = l.form
	}
	w := &watcher{level: level, form: form, lines: make(chan []byte, backlog)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watchers) >= maxWatchers {
		return nil, nil, false
	}
	l.watchers = append(l.watchers, w)
	l.settleLocked()
	return w.lines, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers = slices.DeleteFunc(l.watchers, func(other *watcher) bool { return other == w })
		l.settleLocked()
	}, true
}

// Reopen reopens the log file, if there is one, because a tool may have moved it away.
func (l *Logs) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.reopen()
}

// Close closes the file. Later lines go only to standard error.
func (l *Logs) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.close()
}

// Write takes one line of a handler of l's, which holds mu.
func (l *Logs) Write(p []byte) (int, error) {
	for _, w := range l.watchers {
		if l.current >= w.level && l.written == w.form {
			select {
			case w.lines <- slices.Clone(p):
			default: // the watcher does not keep up, and nothing waits for it
			}
		}
	}
	if l.written != l.form || int64(l.current) < l.level.Load() {
		return len(p), nil
	}
	n, err := l.stderr.Write(p)
	if l.file == nil {
		return n, err
	}
	// The standard error may be closed, and the file not, or the other way round.
	if why := l.file.write(p); why != nil && time.Since(l.warned) >= complainEvery {
		l.warned = time.Now()
		l.apart.Error("the log file cannot be written; its lines are lost to it", "log_file", l.file.path, "error",
			why)
	}
	return n, err
}

// wantedLocked reports whether any receiver wants a line in a form.
func (l *Logs) wantedLocked(level slog.Level, form string) bool {
	return form == l.form && int64(level) >= l.level.Load() ||
		slices.ContainsFunc(l.watchers, func(w *watcher) bool { return w.form == form && level >= w.level })
}

// handler tells [Logs] the level and form of each line.
type handler struct {
	logs  *Logs
	forms map[string]slog.Handler
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return int64(level) >= h.logs.floor.Load()
}

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.logs.mu.Lock()
	defer h.logs.mu.Unlock()
	var errs []error
	for form, inner := range h.forms {
		if h.logs.wantedLocked(r.Level, form) {
			h.logs.current, h.logs.written = r.Level, form
			errs = append(errs, inner.Handle(ctx, r))
		}
	}
	return errors.Join(errs...)
}

// with is h with each form changed.
func (h *handler) with(change func(slog.Handler) slog.Handler) *handler {
	out := &handler{logs: h.logs, forms: map[string]slog.Handler{}}
	for form, inner := range h.forms {
		out.forms[form] = change(inner)
	}
	return out
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithAttrs(attrs) })
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	return h.with(func(inner slog.Handler) slog.Handler { return inner.WithGroup(name) })
}
