//go:build !linux

package server

import "time"

// boot is unknown on this system, so the clock is not checked at a start.
func boot() (id string, since time.Duration) { return "", 0 }
