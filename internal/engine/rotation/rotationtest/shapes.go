package rotationtest

import (
	"net/http"
	"time"

	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
)

// A Shape is the API of a vendor with a built-in recipe, as far as the recipe uses it. The replies
// have the forms of the vendor's documentation. A [Vendor] behind it has the keys and the faults.
type Shape struct {
	Recipe string
	Params map[string]any
	Admin  []string // the names of the admin credentials, all of which are the vendor's admin token
	Secret string   // the output that is the [Vendor]'s secret of the key
	// NoLimit says that the vendor does not document its reply at a limit of keys.
	NoLimit bool

	OwnLastUsed bool // the recipe has a call last_used
	Operation   bool // the creating call begins an operation

	routes func(a *api)
}

// Breaker returns the Break of a fixture of [rotatetest.Targets]. The time of the last use is part
// of the vendor's list, or has a call of its own.
func (s Shape) Breaker(v *Vendor, late time.Duration) func(rotatetest.Step, rotatetest.Fault) {
	fail := Breaker(v, late)
	return func(call rotatetest.Step, f rotatetest.Fault) {
		if call == rotatetest.LastUsed && !s.OwnLastUsed {
			call = rotatetest.List
		}
		fail(call, f)
	}
}

// Shapes returns all shapes.
func Shapes() []Shape {
	return []Shape{
		{Recipe: "atlas", Params: map[string]any{"org_id": "org1", "roles": []string{"ORG_READ_ONLY"}},
			Admin: []string{"public_key", "private_key"}, Secret: "private_key", NoLimit: true, routes: atlas},
		{Recipe: "cloudflare", Params: map[string]any{"template_id": "template"}, Admin: []string{"token"},
			Secret: "api_token", NoLimit: true, routes: cloudflare},
		{Recipe: "gcp-api-key", Params: map[string]any{"project": "p1", "service": "translation",
			"test_path": "language/translate/v2/languages"}, Admin: []string{"token"}, Secret: "api_key",
			Operation: true, routes: gcp},
		{Recipe: "sendgrid", Params: map[string]any{"scopes": []string{"mail.send"}}, Admin: []string{"token"},
			Secret: "api_key", routes: sendgrid},
		{Recipe: "twilio", Params: map[string]any{"account_sid": "AC1"}, Admin: []string{"username", "password"},
			Secret: "secret", NoLimit: true, routes: twilio},
		{Recipe: "openai", Params: map[string]any{"project_id": "proj_1", "service_account_id": "svc_1"},
			Admin: []string{"token"}, Secret: "api_key", NoLimit: true, routes: openai},
		{Recipe: "datadog", Admin: []string{"api_key", "application_key"}, Secret: "api_key", NoLimit: true,
			routes: datadog},
		{Recipe: "newrelic", Params: map[string]any{"account_id": 1, "user_id": 7}, Admin: []string{"token"},
			Secret: "api_key", NoLimit: true, routes: newRelic},
	}
}

// Handler serves the shape in front of v.
func (s Shape) Handler(v *Vendor, adminToken string) http.Handler {
	a := &api{Server: v, adminToken: adminToken, mux: http.NewServeMux(),
		failure: func(_ int, text string) any { return map[string]any{"message": text} }}
	a.full, a.dead = answer{status: 400}, answer{status: 401}
	s.routes(a)
	return a.mux
}
