package recipe

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/secret"
)

const adminCanary = "admin+canary/57 x"

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// demo is the built-in recipe http-demo.
func demo(t *testing.T) rotation.Definition {
	t.Helper()
	ds, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		if d.Name == "http-demo" {
			return d
		}
	}
	t.Fatal("there is no recipe http-demo")
	panic("unreachable")
}

func openDemo(t *testing.T, d rotation.Definition, dial dialFunc) rotation.Source {
	t.Helper()
	s, err := Provider.Open(rotation.OpenConfig{
		Definition: d,
		Params:     map[string]json.RawMessage{"url": json.RawMessage(`"http://127.0.0.1:8300"`)},
		Admin:      map[string]secret.Value{"token": secret.Text(adminCanary)},
		Dial:       dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// target is a source as an engine opens it.
type target struct {
	rotation.Source
	can rotate.Capabilities
}

func (t *target) Capabilities() rotate.Capabilities { return t.can }
func (t *target) Settle() rotate.Settle             { return rotate.Settle{} }
func (t *target) Place() *rotate.Place              { return nil }

func TestTargets(t *testing.T) {
	d := demo(t)
	rotatetest.Targets(t, func(t *testing.T) rotatetest.Fixture {
		server := rotationtest.NewVendor(rotationtest.VendorConfig{AdminToken: adminCanary})
		opened := &target{openDemo(t, d, rotationtest.Pipe(t, server.Handler())), d.Can}
		current, err := opened.Create(t.Context(),
			rotate.Order{Marker: rotate.Marker{Installation: "test0001", Key: "current", Turn: 1, Attempt: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return rotatetest.Fixture{
			Open: func(context.Context) (rotate.Target, rotate.Credential, error) { return opened, current, nil },
			Works: func(c rotate.Credential) bool {
				_, err := server.Use(context.Background(), c.Secret["api_key"].RevealString())
				return err == nil
			},
			Hidden: []string{adminCanary}, Break: rotationtest.Breaker(server, time.Minute),
			Live: rotationtest.LiveIDs(server),
		}
	})
}
