package recipe

import (
	"context"
	"encoding/json"
	"net"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
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

func TestConformance(t *testing.T) {
	d := demo(t)
	rotationtest.Run(t, func(t *testing.T) rotationtest.Rig {
		server := rotationtest.NewVendor(rotationtest.VendorConfig{AdminToken: adminCanary})
		return rotationtest.Rig{
			Source: openDemo(t, d, rotationtest.Pipe(t, server.Handler())),
			Can:    d.Can,
			Break:  rotationtest.Breaker(server, time.Minute),
			Live:   rotationtest.LiveIDs(server),
			Canary: []string{adminCanary},
		}
	})
}
