package server

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// boot tells which boot of the machine this is, and how long ago it began, by
// a clock that nobody can set and that goes on while the machine sleeps.
func boot() (id string, since time.Duration) {
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return "", 0
	}
	return strings.TrimSpace(string(text)), time.Duration(ts.Nano())
}
