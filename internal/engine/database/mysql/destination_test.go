package mysql

import (
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
)

func TestDestination(t *testing.T) {
	const base = "{{username}}:{{password}}@tcp(db.example.com:3306)/app?tls=skip-verify"
	for _, tt := range []struct {
		url  string
		edit func(*database.Config)
		same bool
	}{
		{base, nil, true},
		{"{{username}}:{{password}}@tcp(db.example.com)/app?tls=true&timeout=3s&parseTime=true", nil, true},
		{"tcp(db.example.com:3306)/app?tls=skip-verify", nil, true},
		{"{{username}}:{{password}}@tcp(db.example.com:3306)/app", nil, false},
		{"{{username}}:{{password}}@tcp(evil.example.com:3306)/app?tls=skip-verify", nil, false},
		{"{{username}}:{{password}}@tcp(db.example.com:3307)/app?tls=skip-verify", nil, false},
		{"other:{{password}}@tcp(db.example.com:3306)/app?tls=skip-verify", nil, false},
		{"{{username}}:{{password}}@tcp(db.example.com:3306)/{{password}}?tls=skip-verify", nil, false},
		{base + "&allowCleartextPasswords=true", nil, false},
		{base, func(c *database.Config) { c.Extra["tls_server_name"] = "evil.example.com" }, false},
		{base, func(c *database.Config) { c.Extra["tls_skip_verify"] = "true" }, true},
		// a value that is filled in could change how the URL is parsed
		{base, func(c *database.Config) { c.DisableEscaping = true }, false},
		{"nonsense", nil, false},
	} {
		to := databasetest.ByURL(tt.url)
		if tt.edit != nil {
			tt.edit(&to)
		}
		databasetest.Leads(t, Provider, databasetest.ByURL(base), to, tt.same)
	}
}
