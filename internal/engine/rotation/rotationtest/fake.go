// Package rotationtest holds providers for tests: the demonstration's server, and [Fake], a
// provider in front of it.
package rotationtest

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// FakeTimeout and FakeLate are the fake's capabilities: how long a call takes at most, and how
// long after the call its key may still appear. A [keyserver.Late] fault with a longer delay than
// FakeLate breaks that promise.
const (
	FakeTimeout = 30 * time.Second
	FakeLate    = 15 * time.Minute
)

// Fake returns a provider in front of s, without HTTP between them, so that it is fast and works
// in a synctest bubble. Its one definition, "fake", needs the admin credential "token" and creates
// credentials with one secret, "api_key". It passes [rotatetest.Targets].
func Fake(s *keyserver.Server) rotation.Provider {
	d := rotation.Definition{
		Provider: "fake", Name: "fake", Description: "keys for tests", Evidence: "its own tests", Style: rotate.TwoKey,
		Admin:   []rotation.Field{{Name: "token", Type: "string", Secret: true, Required: true}},
		Outputs: []rotation.Output{{Name: "api_key", Secret: true}, {Name: "label"}},
		Settle:  rotate.Settle{Successes: 2, Interval: time.Second, Timeout: 10 * time.Minute},
		Can: rotate.Capabilities{
			List: true, Label: true, LastUsed: true, Disable: true,
			Proof: rotate.ProofUse, Retry: rotate.RetryAdopt, Timeout: FakeTimeout, Late: FakeLate,
		},
		Hash: "fake:1",
	}
	return rotation.Provider{
		Name:        d.Provider,
		Definitions: func() ([]rotation.Definition, error) { return []rotation.Definition{d}, nil },
		Open: func(c rotation.OpenConfig) (rotation.Source, error) {
			if c.Definition.Name != d.Name || c.Definition.Hash != d.Hash {
				return nil, fault.New("fake.Open", fault.Invalid, "there is no definition %q with hash %q",
					c.Definition.Name, c.Definition.Hash)
			}
			if c.Admin["token"].Empty() {
				return nil, fault.New("fake.Open", fault.Invalid, `admin credential "token" is required`)
			}
			r := c.Redactor
			if r == nil {
				r = new(secret.Redactor)
			}
			r.Know(c.Admin["token"])
			return &fake{s, c.Admin["token"], r, c.OnExchange}, nil
		},
	}
}

type fake struct {
	server     *keyserver.Server
	token      secret.Value
	redactor   *secret.Redactor
	onExchange func(rotate.Exchange)
}

// recordCreate reports a successful creating call, as a provider that speaks HTTP does.
func (f *fake) recordCreate(reply any) {
	if f.onExchange == nil {
		return
	}
	body, _ := json.Marshal(reply)
	f.onExchange(rotate.Exchange{
		At: time.Now().UTC(), Step: "create", Method: "POST", Host: "keys.test", Path: "/v1/keys", Status: 201,
		Reply: rotate.ShowReply(f.redactor, 201, body, true),
	})
}

func (f *fake) Create(ctx context.Context, o rotate.Order) (rotate.Credential, error) {
	ctx, cancel := context.WithTimeout(ctx, FakeTimeout)
	defer cancel()
	k, err := f.server.Create(ctx, f.token.RevealString(), o.Marker.String())
	if err != nil {
		return rotate.Credential{}, f.failure("fake.Create", err, true)
	}
	f.recordCreate(map[string]string{"id": k.ID, "secret": k.Secret, "label": k.Label})
	value := secret.Text(k.Secret)
	f.redactor.Know(value)
	return rotate.Credential{
		ID:     k.ID,
		Secret: map[string]secret.Value{"api_key": value},
		Public: map[string]string{"label": k.Label},
	}, nil
}

func (f *fake) Verify(ctx context.Context, c rotate.Credential) error {
	ctx, cancel := context.WithTimeout(ctx, FakeTimeout)
	defer cancel()
	_, err := f.server.Use(ctx, c.Secret["api_key"].RevealString())
	if errors.Is(err, keyserver.ErrUnauthorized) {
		return &rotate.Failure{Outcome: rotate.Rejected, Status: 401,
			Err: fault.Wrap("fake.Verify", fault.Upstream, err)}
	}
	return f.failure("fake.Verify", err, false)
}

func (f *fake) VerifyDead(ctx context.Context, c rotate.Credential) error {
	err := f.Verify(ctx, c)
	switch {
	case err == nil:
		return &rotate.Failure{Outcome: rotate.Alive,
			Err: fault.New("fake.VerifyDead", fault.Upstream, "the provider still accepts the key")}
	case rotate.OutcomeOf(err) == rotate.Rejected:
		return nil
	}
	return err
}

func (f *fake) List(ctx context.Context) ([]rotate.Listed, error) {
	ctx, cancel := context.WithTimeout(ctx, FakeTimeout)
	defer cancel()
	keys, err := f.server.List(ctx, f.token.RevealString())
	if err != nil {
		return nil, f.failure("fake.List", err, false)
	}
	out := make([]rotate.Listed, 0, len(keys))
	for _, k := range keys {
		m, _ := rotate.ParseMarker(k.Label)
		out = append(out, rotate.Listed{ID: k.ID, Label: k.Label, Marker: m, Created: k.Created, LastUsed: k.LastUsed,
			Disabled: !k.Disabled.IsZero()})
	}
	return out, nil
}

func (f *fake) LastUsed(ctx context.Context, id string) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, FakeTimeout)
	defer cancel()
	k, err := f.server.Get(ctx, f.token.RevealString(), id)
	return k.LastUsed, f.failure("fake.LastUsed", err, false)
}

func (f *fake) Disable(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, FakeTimeout)
	defer cancel()
	return f.absent("fake.Disable", f.server.Disable(ctx, f.token.RevealString(), id, true))
}

func (f *fake) Retire(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, FakeTimeout)
	defer cancel()
	return f.absent("fake.Retire", f.server.Delete(ctx, f.token.RevealString(), id))
}

// absent is failure for calls that also succeed if the key is gone.
func (f *fake) absent(op string, err error) error {
	if errors.Is(err, keyserver.ErrNotFound) {
		return nil
	}
	return f.failure(op, err, true)
}

// failure classifies an error of a call that does or does not change something.
func (f *fake) failure(op string, err error, changes bool) error {
	if err == nil {
		return nil
	}
	out := &rotate.Failure{Err: fault.Wrap(op, fault.Upstream, f.redactor.Error(err))}
	switch {
	case errors.Is(err, keyserver.ErrBusy):
		out.Outcome, out.RetryAfter = rotate.Transient, 7*time.Second
	case errors.Is(err, keyserver.ErrFull):
		out.Outcome = rotate.Exhausted
	case errors.Is(err, keyserver.ErrCut), errors.Is(err, keyserver.ErrBroken):
		if !changes {
			out.Outcome = rotate.Transient
		}
	default:
		out.Outcome = rotate.Permanent
	}
	return out
}
