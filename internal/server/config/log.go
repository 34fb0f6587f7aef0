package config

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"strings"
	"time"

	"github.com/hashicorp/hcl/hcl/ast"
)

// Log is the configuration of the log.
type Log struct {
	Level    slog.Level
	Format   string      // "text" or "json"
	Requests *slog.Level // of the line about each request that was answered; nil: there is none

	// File is the log file in addition to standard error; "": none. It is rotated after
	// RotateBytes (0: no limit) or RotateEvery, and MaxFiles old ones are kept: 0: all, below
	// zero: none.
	File        string
	RotateBytes int64
	RotateEvery time.Duration
	MaxFiles    int
}

const defaultRotateEvery = 24 * time.Hour

// Handler writes the log in the configured format, at a level that can be changed.
func (l *Log) Handler(w io.Writer, level slog.Leveler) slog.Handler {
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}

// Level parses the name of a level.
func Level(text string) (slog.Level, error) {
	if l, ok := levels[strings.ToLower(text)]; ok {
		return l, nil
	}
	return 0, fmt.Errorf("want trace, debug, info, warn or error, not %.80q", text)
}

// LevelName returns the name of a level in the API.
func LevelName(l slog.Level) string {
	switch {
	case l <= LevelTrace:
		return "trace"
	case l <= slog.LevelDebug:
		return "debug"
	case l <= slog.LevelInfo:
		return "info"
	case l <= slog.LevelWarn:
		return "warn"
	}
	return "error"
}

// Format parses the name of the log's format.
func Format(text string) (string, error) {
	switch strings.ToLower(text) {
	case "", "text", "standard":
		return "text", nil
	case "json":
		return "json", nil
	}
	return "", fmt.Errorf("want text (or standard) or json, not %q", text)
}

// levels are the names of levels in log_level.
var levels = map[string]slog.Level{
	"trace": LevelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "err": slog.LevelError,
}

// LevelTrace is below the levels of slog.
const LevelTrace = slog.LevelDebug - 4

func logKeys(r *report, l *Log) []key {
	return []key{
		{name: "log_file", kind: "path", set: r.text(&l.File),
			doc: "The file to log to besides the standard error; a folder, written with a slash at its end, stands " +
				"for vault.log in it, and a name without an ending gets .log. SIGHUP reopens it, for tools that " +
				"move it away."},
		{name: "log_format", kind: "text", byDefault: "text", set: logFormat(r, &l.Format),
			doc: "The format of the log: text (or standard) or json. The variable `VAULT_LOG_FORMAT` overrides it."},
		{name: "log_level", kind: "text", byDefault: "info", reload: true, set: level(r, &l.Level),
			doc: "The log level: trace, debug, info, warn or error. The variable `VAULT_LOG_LEVEL` overrides it " +
				"until SIGHUP."},
		{name: "log_requests_level", kind: "text", byDefault: "off", reload: true, set: requestsLevel(r, &l.Requests),
			doc: "The level at which each request that was answered is logged: trace, " +
				"debug, info, warn, error or off."},
		{name: "log_rotate_bytes", kind: "bytes", byDefault: "not counted",
			set: r.number(&l.RotateBytes, 0, math.MaxInt64, "a number of bytes, or 0 for no limit"),
			doc: "How large log_file may become before a new one is begun."},
		{name: "log_rotate_duration", kind: "duration", byDefault: "24h", set: r.duration(&l.RotateEvery),
			doc: "How long log_file is written to before a new one is begun."},
		{name: "log_rotate_max_files", kind: "number", byDefault: "0",
			set: r.integer(&l.MaxFiles, -1, 1_000_000, "how many old files are kept, 0 for all or -1 for none"),
			doc: "How many old log files are kept: 0 keeps all of them, -1 none."},
	}
}

// level sets the level of the log.
func level(r *report, into *slog.Level) setter {
	var text string
	return then(r.text(&text), func(item *ast.ObjectItem) {
		l, err := Level(text)
		if err != nil {
			r.problem(r.at(item), "%s: %v", label(item, 0), err)
		}
		*into = l
	})
}

// requestsLevel sets the level of the line about each request.
func requestsLevel(r *report, into **slog.Level) setter {
	var text string
	return then(r.text(&text), func(item *ast.ObjectItem) {
		if strings.EqualFold(text, "off") || text == "" {
			return
		}
		l, err := Level(text)
		if err != nil {
			r.problem(r.at(item), "log_requests_level: want trace, debug, info, warn, error or off, not %q", text)
		}
		*into = &l
	})
}

func logFormat(r *report, into *string) setter {
	return then(r.text(into), func(item *ast.ObjectItem) {
		f, err := Format(*into)
		if err != nil {
			r.problem(r.at(item), "log_format: %v", err)
		}
		*into = f
	})
}
