package rotation

import (
	"context"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/rotation/schedule"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

type mountConfig struct {
	Brake   bool          `json:"brake"`
	Grace   time.Duration `json:"default_grace_period"`
	ReadTTL time.Duration `json:"default_read_ttl"`
	// Blackout joins the black-out dates of each key.
	Blackout cron.Blackout `json:"blackout,omitempty"`
}

// mountConfigs stores the configuration of a mount and serves its routes.
type mountConfigs struct{ m *engine.Mount }

func (c mountConfigs) load(ctx context.Context) (config mountConfig, err error) {
	e, err := c.m.Store.Get(ctx, configKey)
	if err != nil || e.Version == 0 {
		return config, err
	}
	return config, decode(e, &config)
}

type configIn struct {
	Brake   *bool          `json:"brake" default:"false" doc:"Whether all rotation of the mount is stopped. A rotation whose new key is already published waits in its grace period."`
	Grace   *time.Duration `json:"default_grace_period" default:"48h" doc:"How long an old key stays valid, for keys whose configuration does not set it."`
	ReadTTL *time.Duration `json:"default_read_ttl" default:"60s" doc:"After how long readers read the secret again, for keys whose configuration does not set it."`

	Blackout *[]string `json:"blackout" doc:"Days, in UTC, on which no scheduled rotation of any key of the mount begins: a list of dates (2026-12-24), ranges (2026-12-24/2027-01-02) and yearly ranges (12-24/01-02)."`
}

// mountConfigOut is the configuration of a mount in an answer.
type mountConfigOut struct {
	Brake    bool          `json:"brake"`
	Grace    time.Duration `json:"default_grace_period"`
	ReadTTL  time.Duration `json:"default_read_ttl"`
	Blackout []string      `json:"blackout"`
}

func (c mountConfigs) read(ctx context.Context, _ *route.Request, _ route.None) (*mountConfigOut, error) {
	config, err := c.load(ctx)
	if err != nil {
		return nil, err
	}
	d := schedule.Policy{}.WithDefaults(schedule.Policy{Grace: config.Grace, ReadTTL: config.ReadTTL})
	return &mountConfigOut{Brake: config.Brake, Grace: d.Grace, ReadTTL: d.ReadTTL,
		Blackout: config.Blackout.Dates()}, nil
}

// write stores the configuration. blackout is nil if the dates do not change.
func (c mountConfigs) write(ctx context.Context, in configIn, blackout *cron.Blackout) (route.None, error) {
	config, err := c.load(ctx)
	if err != nil {
		return route.None{}, err
	}
	set(&config.Blackout, blackout)
	wasBraked := config.Brake
	set(&config.Brake, in.Brake)
	set(&config.Grace, in.Grace)
	set(&config.ReadTTL, in.ReadTTL)
	if problems := (schedule.Policy{}).WithDefaults(
		schedule.Policy{Grace: config.Grace, ReadTTL: config.ReadTTL}).Problems(); len(problems) > 0 {
		return route.None{},
			fault.New("rotation.config", fault.Invalid, "the defaults do not fit a key of the standard class: %s",
				strings.Join(problems, "; "))
	}
	row, err := encode(config)
	if err != nil {
		return route.None{}, err
	}
	var events []storage.Op
	if wasBraked != config.Brake {
		events = append(events, c.m.Host.Event("rotation/brake", engine.Details(
			map[string]string{"brake": map[bool]string{true: "on", false: "off"}[config.Brake]})...))
	}
	_, err = c.m.Store.CommitWith(ctx, []storage.Op{storage.Set(configKey, row)}, events)
	return route.None{}, err
}

// set copies given into to if given is not nil.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}
