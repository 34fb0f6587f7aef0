package rotation

import (
	"context"
	"strings"
	"time"

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
}

func (c mountConfigs) read(ctx context.Context, _ *route.Request, _ route.None) (mountConfig, error) {
	config, err := c.load(ctx)
	d := schedule.Policy{}.WithDefaults(schedule.Policy{Grace: config.Grace, ReadTTL: config.ReadTTL})
	config.Grace, config.ReadTTL = d.Grace, d.ReadTTL
	return config, err
}

func (c mountConfigs) write(ctx context.Context, _ *route.Request, in configIn) (route.None, error) {
	config, err := c.load(ctx)
	if err != nil {
		return route.None{}, err
	}
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
