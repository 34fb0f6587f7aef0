package node

import (
	"cmp"
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/wire"
)

// Limits of sys/rotate/config, as documented for Vault.
const (
	minKeyOperations = 1_000_000
	maxKeyOperations = 1 << 32
	minKeyInterval   = 24 * time.Hour
)

// DefaultKeyRotation is used if nothing is configured. Its number of operations is 90 % of 2^32,
// the limit of NIST SP 800-38D for random nonces.
var DefaultKeyRotation = KeyRotation{Enabled: true, MaxOperations: 3_865_470_566}

// Due reports whether a key of this age and number of encryptions must be replaced.
func (c KeyRotation) Due(made time.Time, uses uint64, now time.Time) bool {
	return c.Enabled && (c.Interval > 0 && now.Sub(made) >= c.Interval || uses >= uint64(c.MaxOperations))
}

// keysAPI serves the barrier's data keys.
type keysAPI struct{ Config }

func (a *keysAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "key-status", a.status).
			WithHelp("The data key in use: its number, its age, and how often it has encrypted."),
		route.On(route.Write, "rotate", a.rotate).WithSudo().WithHelp("Create a new data key."),
		route.On(route.Write, "rotate/keyring", a.rotate).WithSudo().
			WithHelp("Create a new data key, under Vault's newer path."),
		route.On(route.Read, "rotate/config", a.readConfig).WithSudo().
			WithHelp("The conditions for the replacement of the data key."),
		route.On(route.Write, "rotate/config", a.writeConfig).WithSudo().
			WithHelp("Set the conditions for the replacement of the data key."),
	}
}

type keyStatusOut struct {
	Term        int       `json:"term"`
	InstallTime time.Time `json:"install_time"`
	Encryptions int64     `json:"encryptions"`
}

func (a *keysAPI) status(_ context.Context, r *route.Request, _ route.None) (*keyStatusOut, error) {
	s, err := a.Keys.Status()
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Merged)
	return &keyStatusOut{Term: s.Term, InstallTime: s.Created.UTC(), Encryptions: int64(s.Uses)}, nil
}

func (a *keysAPI) rotate(ctx context.Context, r *route.Request, _ route.None) (route.None, error) {
	term, err := a.Keys.Rotate(ctx)
	if err == nil {
		r.Warn("the data key is now number %d; what was written before stays readable", term)
	}
	return route.None{}, err
}

func (a *keysAPI) readConfig(ctx context.Context, r *route.Request, _ route.None) (*KeyRotation, error) {
	c, err := a.Keys.Rotation(ctx)
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Merged)
	return &c, nil
}

type keyRotationIn struct {
	Enabled       **bool          `json:"enabled" doc:"Whether the server rotates the data key automatically. If false, it still does so after 2^30 encryptions, for safety."`
	MaxOperations **int64         `json:"max_operations" doc:"The number of encryptions after which the key is replaced: 1,000,000 to 4,294,967,296."`
	Interval      **time.Duration `json:"interval" doc:"The age at which the key is replaced: 24h or more; 0 for no limit."`
}

func (a *keysAPI) writeConfig(ctx context.Context, _ *route.Request, in keyRotationIn) (route.None, error) {
	c, err := a.Keys.Rotation(ctx)
	if err != nil {
		return route.None{}, err
	}
	wire.Default(&c.Enabled, in.Enabled, DefaultKeyRotation.Enabled)
	wire.Default(&c.MaxOperations, in.MaxOperations, DefaultKeyRotation.MaxOperations)
	wire.Default(&c.Interval, in.Interval, DefaultKeyRotation.Interval)
	c.MaxOperations = cmp.Or(c.MaxOperations, DefaultKeyRotation.MaxOperations) // 0: not configured
	if c.MaxOperations < minKeyOperations || c.MaxOperations > maxKeyOperations {
		return route.None{}, fault.New("node.rotateConfig", fault.Invalid, "field \"max_operations\": want %d to %d",
			minKeyOperations, int64(maxKeyOperations))
	}
	if c.Interval != 0 && c.Interval < minKeyInterval {
		return route.None{}, fault.New("node.rotateConfig", fault.Invalid,
			"field \"interval\": want 24h or more, or 0 for none")
	}
	return route.None{}, a.Keys.SetRotation(ctx, c)
}
