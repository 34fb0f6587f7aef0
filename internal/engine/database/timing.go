package database

import (
	"time"

	"github.com/keyturn/keyturn/internal/cron"
)

// timing is how roles and their credentials show when they are rotated.
type timing struct {
	Period   time.Duration `json:"rotation_period,omitempty"`
	Schedule string        `json:"rotation_schedule,omitempty"`
	Window   time.Duration `json:"rotation_window,omitempty"`
}

func timingOf(w cron.When) timing { return timing{w.Period, w.Schedule, w.Window} }
