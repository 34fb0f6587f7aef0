package databasetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestFake(t *testing.T) {
	var f Fake
	Run(t, Target{
		Provider: f.Provider(),
		Config:   database.Config{URL: secret.Text("fake://"), Username: FakeAdmin, Password: secret.Text(FakePassword)},
		Creation: []string{"CREATE"}, Revocation: []string{"DROP"}, Broken: []string{"CREATE", "FAIL"},
		Keyed: []string{"CREATE", "{{subject}}"}, Rekeyed: []string{"TELL {{subject}}"},
		Password: []string{"PASSWORD"}, BadPassword: []string{"FAIL"},
		Shut:   map[string]func(*testing.T, string){"shut": func(_ *testing.T, name string) { f.Shut(name, true) }},
		Bring:  map[string]func(*testing.T, string){"shut": func(_ *testing.T, name string) { f.Shut(name, false) }},
		Slow:   func(d time.Duration) []string { return []string{"SLEEP " + d.String(), "CREATE"} },
		Login:  func(_ context.Context, name, password string) error { return f.Login(name, password) },
		Exists: func(_ context.Context, name string) (bool, error) { return slices.Contains(f.Users(), name), nil },
		Stop:   func() error { f.SetDown(true); return nil },
		Start:  func() error { f.SetDown(false); return nil },
	})
}
