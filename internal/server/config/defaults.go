package config

import (
	"time"

	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// Defaults that are Vault's.
const (
	defaultMaxTime     = httpapi.DefaultMaxTime
	defaultReadTime    = 30 * time.Second
	defaultRotateEvery = 24 * time.Hour
	// defaultRotationSeries keeps a scrape below some ten megabytes: each credential has eight
	// series of about 200 bytes.
	defaultRotationSeries = 5000
)
