package rotationtest

import (
	"testing"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestFake(t *testing.T) {
	Run(t, func(t *testing.T) Rig {
		s := keyserver.New(keyserver.Config{AdminToken: "admin-canary"})
		p := Fake(s)
		ds, err := p.Definitions()
		if err != nil {
			t.Fatal(err)
		}
		source, err := p.Open(rotation.OpenConfig{Definition: ds[0], Admin: map[string]secret.Value{"token": secret.Text("admin-canary")}})
		if err != nil {
			t.Fatal(err)
		}
		return Rig{Source: source, Can: ds[0].Can, Break: Breaker(s, FakeLate/2), Live: LiveIDs(s), Canary: []string{"admin-canary"}}
	})
}
