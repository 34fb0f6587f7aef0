package redis

import (
	"maps"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestDestination(t *testing.T) {
	base := map[string]string{"host": "h", "tls": "true", "insecure_tls": "true"}
	by := func(more map[string]string) database.Config {
		c := databasetest.ByURL("")
		maps.Copy(c.Extra, base)
		maps.Copy(c.Extra, more)
		return c
	}
	for _, tt := range []struct {
		more map[string]string
		same bool
	}{
		{map[string]string{"port": "6379"}, true},
		{map[string]string{"persistence_mode": "ACLFILE"}, true},
		{map[string]string{"insecure_tls": ""}, true},
		{map[string]string{"tls": ""}, false},
		{map[string]string{"port": "6380"}, false},
		{map[string]string{"host": "evil"}, false},
		{map[string]string{"insecure_tls": "", "ca_cert": "another"}, false},
		{map[string]string{"host": ""}, false},
		{map[string]string{"cluster": "true"}, false},
		{map[string]string{"sentinel_master_name": "m"}, false},
	} {
		databasetest.Leads(t, Provider, by(nil), by(tt.more), tt.same)
	}
}

// TestDestinationOfSeveral: a node more, or another name, is another place.
func TestDestinationOfSeveral(t *testing.T) {
	places := map[string]bool{}
	for _, extra := range []map[string]string{
		{"host": "a,b", "cluster": "true"}, {"host": "a,b:1", "cluster": "true"}, {"host": "a", "cluster": "true"},
		{"host": "a"},
		{"host": "a,b", "sentinel_master_name": "m"}, {"host": "a,b", "sentinel_master_name": "n"},
		{"host": "a", "sentinel_master_name": "m"},
	} {
		is, ok := Provider.Destination(
			database.Config{Extra: extra, Username: "admin", Password: secret.Text("Canary")})
		if !ok || places[is.Place] {
			t.Errorf("%v: %+v, %v", extra, is, ok)
		}
		places[is.Place] = true
	}
	if _, ok := Provider.Destination(
		database.Config{Extra: map[string]string{"host": "a", "cluster": "true", "sentinel_master_name": "m"}}); ok {
		t.Error("a contradiction leads somewhere")
	}
}

// TestNoCA: "0" is what HashiCorp's Terraform provider sends where there is no ca_cert.
func TestNoCA(t *testing.T) {
	for _, extra := range []map[string]string{{"host": "h", "ca_cert": "0"},
		{"host": "h", "ca_cert": "0", "tls": "true"}} {
		if err := Provider.Check(
			database.Config{Extra: extra, Username: "admin", Password: secret.Text("Canary")}); err != nil {
			t.Errorf("%v: %v", extra, err)
		}
	}
}
