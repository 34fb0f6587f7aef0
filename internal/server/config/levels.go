package config

import (
	"log/slog"
)

// levels are the names that log_level takes.
var levels = map[string]slog.Level{
	"trace": LevelTrace, "debug": slog.LevelDebug, "info": slog.LevelInfo, "notice": slog.LevelInfo,
	"warn": slog.LevelWarn, "warning": slog.LevelWarn, "error": slog.LevelError, "err": slog.LevelError,
}

// LevelTrace is below the levels of slog.
const LevelTrace = slog.LevelDebug - 4
