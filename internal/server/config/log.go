package config

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
)

// Level reads a level's name.
func Level(text string) (slog.Level, error) {
	if l, ok := levels[strings.ToLower(text)]; ok {
		return l, nil
	}
	return 0, fmt.Errorf("want trace, debug, info, warn or error, not %.80q", text)
}

// LevelName is the name that the log's level has in the API.
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

// Format reads a form's name.
func Format(text string) (string, error) {
	switch strings.ToLower(text) {
	case "", "text", "standard":
		return "text", nil
	case "json":
		return "json", nil
	}
	return "", fmt.Errorf("want text (or standard) or json, not %q", text)
}

// Handler writes the log in the configured form, at a level that can be changed.
func (l *Log) Handler(w io.Writer, level slog.Leveler) slog.Handler {
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.NewJSONHandler(w, o)
	}
	return slog.NewTextHandler(w, o)
}
