// Package logs is where the server's log goes: the standard error, a file that is
// begun anew from time to time, and whoever watches (sys/monitor).
//
// A line is formatted once, whoever gets it. A watcher that does not keep up loses lines;
// a file that cannot be written loses them, too, and the standard error says so: nothing
// of the server waits for its log.
package logs

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/server/config"
)

const (
	// backlog is how many lines a watcher may be behind before it loses some.
	backlog = 512
	// complainEvery is how often a file that cannot be written is complained of.
	complainEvery = time.Minute
)

// Logs is the log of one server. It is safe for concurrent use.
type Logs struct {
	level atomic.Int64 // of what is told to the standard error and the file
	floor atomic.Int64 // the lowest that anybody wants: level or a watcher's

	stderr io.Writer
	apart  *slog.Logger // to the standard error alone

	mu       sync.Mutex // guards what follows
	current  slog.Level // of the line that is being written
	file     *file      // nil: there is none
	warned   time.Time  // when its failure was complained of last
	watchers []*watcher
}

type watcher struct {
	level slog.Level
	lines chan []byte
}

// Open returns the log that c describes, written to stderr, too.
func Open(c config.Log, stderr io.Writer) (*Logs, error) {
	l := &Logs{stderr: stderr, apart: slog.New(c.Handler(stderr, config.LevelTrace))}
	l.level.Store(int64(c.Level))
	l.floor.Store(int64(c.Level))
	if c.File == "" {
		return l, nil
	}
	var err error
	l.file, err = openFile(c)
	return l, err
}

// Logger returns a logger in the form that c says.
func (l *Logs) Logger(c config.Log) *slog.Logger {
	return slog.New(&handler{l, c.Handler(l, floor{l})})
}

// floor is the level below which nothing is formatted.
type floor struct{ *Logs }

// Level implements [slog.Leveler].
func (f floor) Level() slog.Level { return slog.Level(f.floor.Load()) }

// Level is what the log tells.
func (l *Logs) Level() slog.Level { return slog.Level(l.level.Load()) }

// SetLevel changes what the log tells.
func (l *Logs) SetLevel(level slog.Level) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.level.Store(int64(level))
	l.settleLocked()
}

// settleLocked finds the lowest level that is wanted.
func (l *Logs) settleLocked() {
	low := l.level.Load()
	for _, w := range l.watchers {
		low = min(low, int64(w.level))
	}
	l.floor.Store(low)
}

// Watch returns the lines from now on that are at least of the level, until stop
// is called. One that is not taken in time is lost.
func (l *Logs) Watch(level slog.Level) (lines <-chan []byte, stop func()) {
	w := &watcher{level: level, lines: make(chan []byte, backlog)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers = append(l.watchers, w)
	l.settleLocked()
	return w.lines, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.watchers = slices.DeleteFunc(l.watchers, func(other *watcher) bool { return other == w })
		l.settleLocked()
	}
}

// Reopen opens the file anew, if there is one: somebody may have moved it away.
func (l *Logs) Reopen() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	return l.file.reopen()
}

// Close closes the file. What is logged after goes to the standard error alone.
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
		if l.current >= w.level {
			select {
			case w.lines <- slices.Clone(p):
			default: // the watcher does not keep up, and nothing waits for it
			}
		}
	}
	if int64(l.current) < l.level.Load() {
		return len(p), nil
	}
	n, err := l.stderr.Write(p)
	if l.file == nil {
		return n, err
	}
	// The standard error may be closed, and the file not, or the other way round.
	if why := l.file.write(p); why != nil && time.Since(l.warned) >= complainEvery {
		l.warned = time.Now()
		l.apart.Error("the log file cannot be written; its lines are lost to it", "log_file", l.file.path, "error", why)
	}
	return n, err
}

// handler tells [Logs] the level of each line.
type handler struct {
	logs  *Logs
	inner slog.Handler
}

// Enabled implements [slog.Handler].
func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	return int64(level) >= h.logs.floor.Load()
}

// Handle implements [slog.Handler].
func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.logs.mu.Lock()
	defer h.logs.mu.Unlock()
	h.logs.current = r.Level
	return h.inner.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &handler{h.logs, h.inner.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h *handler) WithGroup(name string) slog.Handler {
	return &handler{h.logs, h.inner.WithGroup(name)}
}
