package database

import (
	"time"

	"github.com/keyturn/keyturn/internal/cron"
)

// timing has the rotation times in answers.
type timing struct {
	Period   time.Duration `json:"rotation_period,omitempty"`
	Schedule string        `json:"rotation_schedule,omitempty"`
	Window   time.Duration `json:"rotation_window,omitempty"`
}

func timingOf(w cron.When) timing {
	return timing{Period: w.Period, Schedule: w.Schedule, Window: w.Window}
}
