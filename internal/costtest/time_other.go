//go:build !linux

package costtest

import "time"

const measurable = false

func threadTime() time.Duration { return 0 }
