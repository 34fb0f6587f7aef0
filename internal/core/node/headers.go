package node

import (
	"context"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// A CORS says from which origins web pages may call the API.
type CORS struct {
	Origins []string `json:"origins"` // "https://ui.example"; "*" alone: all
	Headers []string `json:"headers"` // in addition to [DefaultCORSHeaders]
}

// DefaultCORSHeaders are the request headers that a page of an allowed origin may always send.
var DefaultCORSHeaders = []string{
	"Content-Type", "X-Requested-With", "X-Vault-AWS-IAM-Server-ID", "X-Vault-MFA", "X-Vault-No-Request-Forwarding",
	"X-Vault-Token", "Authorization",
	"X-Vault-Wrap-Format", "X-Vault-Wrap-TTL", "X-Vault-Policy-Override",
}

// Enabled reports whether any origin is allowed.
func (c CORS) Enabled() bool { return len(c.Origins) > 0 }

// Allows reports whether pages of this origin may call.
func (c CORS) Allows(origin string) bool {
	return slices.ContainsFunc(c.Origins, func(o string) bool { return o == "*" || strings.EqualFold(o, origin) })
}

// AllHeaders returns the request headers that pages of an allowed origin may send.
func (c CORS) AllHeaders() []string { return append(slices.Clone(DefaultCORSHeaders), c.Headers...) }

// A HeaderRule says how the audit log records a request header.
type HeaderRule struct {
	HMAC bool `json:"hmac"`
}

// The settings of HTTP headers. Names keep the spelling that policies have judged; a second
// spelling of the same name is refused.
var (
	CORSSetting   = setting[CORS]{"core/config/cors"}
	UIHeaders     = setting[map[string][]string]{"core/config/ui-headers"}
	AuditedHeader = setting[map[string]HeaderRule]{"core/config/audited-headers"}
)

// headerAPI serves sys/config/cors, sys/config/ui/headers and sys/config/auditing/request-headers.
type headerAPI struct{ Config }

func (a *headerAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Read, "config/cors", a.readCORS).WithSudo().
			WithHelp("Which web pages of other origins may call the API."),
		route.On(route.Write, "config/cors", a.writeCORS).WithSudo().
			WithHelp("Let web pages of other origins call the API."),
		route.On(route.Delete, "config/cors", a.deleteCORS).WithSudo().
			WithHelp("Let no web page of another origin call the API."),
		route.On(route.List, "config/ui/headers", a.listUI).WithSudo().
			WithHelp("The names of the headers of the answers below /ui."),
		route.On(route.Read, "config/ui/headers/{name}", a.readUI).WithSudo().
			WithHelp("A header of the answers below /ui."),
		route.On(route.Write, "config/ui/headers/{name}", a.writeUI).WithSudo().
			WithHelp("Add a header to the answers below /ui."),
		route.On(route.Delete, "config/ui/headers/{name}", a.deleteUI).WithSudo().
			WithHelp("Remove a header from the answers below /ui."),
		route.On(route.Read, "config/auditing/request-headers", a.listAudited).WithSudo().
			WithHelp("The request headers that the audit log records."),
		route.On(route.Read, "config/auditing/request-headers/{name}", a.readAudited).WithSudo().
			WithHelp("How the audit log records a request header."),
		route.On(route.Write, "config/auditing/request-headers/{name}", a.writeAudited).WithSudo().
			WithHelp("Record a request header in the audit log."),
		route.On(route.Delete, "config/auditing/request-headers/{name}", a.deleteAudited).WithSudo().
			WithHelp("Stop recording a request header in the audit log."),
	}
}

type corsIn struct {
	Origins []string `json:"allowed_origins" doc:"The origins, such as https://ui.example; * alone for all."`
	Headers []string `json:"allowed_headers" doc:"Request headers that pages may send besides those that the API itself uses."`
}

type corsOut struct {
	Enabled bool     `json:"enabled"`
	Origins []string `json:"allowed_origins,omitempty"`
	Headers []string `json:"allowed_headers,omitempty"`
}

func (a *headerAPI) readCORS(ctx context.Context, r *route.Request, _ route.None) (*corsOut, error) {
	c, err := CORSSetting.Read(ctx, a.View)
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Merged)
	out := &corsOut{Enabled: c.Enabled(), Origins: c.Origins}
	if out.Enabled {
		out.Headers = c.AllHeaders()
	}
	return out, nil
}

func (a *headerAPI) writeCORS(ctx context.Context, _ *route.Request, in corsIn) (route.None, error) {
	const op = "node.writeCORS"
	if len(in.Origins) == 0 {
		return route.None{}, fault.New(op, fault.Invalid,
			"field \"allowed_origins\": name the origins, such as https://ui.example; to allow none, delete "+
				"sys/config/cors")
	}
	for _, o := range in.Origins {
		if o == "*" && len(in.Origins) > 1 {
			return route.None{}, fault.New(op, fault.Invalid,
				"field \"allowed_origins\": * allows every origin; send it alone")
		}
		if o != "*" && !isOrigin(o) {
			return route.None{}, fault.New(op, fault.Invalid,
				"field \"allowed_origins\": %q is not an origin; write its scheme and host as the browser sends "+
					"them, such as https://ui.example",
				o)
		}
	}
	for _, h := range in.Headers {
		if !httpguts.ValidHeaderFieldName(h) {
			return route.None{}, fault.New(op, fault.Invalid,
				"field \"allowed_headers\": %q is not a header name; use letters, digits and dashes", h)
		}
	}
	return route.None{}, CORSSetting.change(ctx, a.View, func(c *CORS) error {
		*c = CORS{Origins: in.Origins, Headers: in.Headers}
		return nil
	})
}

// isOrigin reports whether text has the form of an Origin header (RFC 6454): scheme://host[:port].
func isOrigin(text string) bool {
	scheme, host, ok := strings.Cut(text, "://")
	return ok && scheme != "" && host != "" && !strings.ContainsAny(scheme+host, "/?#@\\ ,;\"'<>") &&
		httpguts.ValidHeaderFieldValue(text)
}

func (a *headerAPI) deleteCORS(ctx context.Context, _ *route.Request, _ route.None) (route.None, error) {
	return route.None{}, CORSSetting.remove(ctx, a.View)
}

// checkHeader refuses invalid header names.
func checkHeader(name string) error {
	if !httpguts.ValidHeaderFieldName(name) {
		return fault.New("node.header", fault.Invalid, "%q is not a header name; use letters, digits and dashes", name)
	}
	return nil
}

// checkSpelling refuses another spelling of a name that is set, because header names ignore case,
// but the paths that policies judge do not.
func checkSpelling[T any](all map[string]T, name string) error {
	for other := range all {
		if other != name && strings.EqualFold(other, name) {
			return fault.New("node.header", fault.Conflict,
				"the header is set already, spelled %q; use that spelling, or delete it first", other)
		}
	}
	return nil
}

func (a *headerAPI) listUI(ctx context.Context, r *route.Request, _ route.None) (route.Keys, error) {
	all, err := UIHeaders.Read(ctx, a.View)
	r.SetShape(route.Merged)
	return route.Keys{Keys: slices.Sorted(maps.Keys(all))}, err
}

type uiHeaderIn struct {
	Name   string   `path:"name" doc:"The header's name. Those that begin with X-Vault- are the API's own."`
	Values []string `json:"values" doc:"Its values, one header line for each."`
}

type uiHeaderRead struct {
	Name     string `path:"name" doc:"The header's name."`
	Multiple bool   `json:"multivalue" doc:"Return all values in values, instead of only the first in value."`
}

type uiHeaderOut struct {
	Value  string   `json:"value,omitempty"`
	Values []string `json:"values,omitempty"`
}

func (a *headerAPI) readUI(ctx context.Context, r *route.Request, in uiHeaderRead) (*uiHeaderOut, error) {
	all, err := UIHeaders.Read(ctx, a.View)
	if err != nil || len(all[in.Name]) == 0 {
		return nil, err
	}
	r.SetShape(route.Merged)
	if in.Multiple {
		return &uiHeaderOut{Values: all[in.Name]}, nil
	}
	return &uiHeaderOut{Value: all[in.Name][0]}, nil
}

func (a *headerAPI) writeUI(ctx context.Context, _ *route.Request, in uiHeaderIn) (route.None, error) {
	const op = "node.writeUI"
	if err := checkHeader(in.Name); err != nil {
		return route.None{}, err
	}
	if strings.HasPrefix(strings.ToLower(in.Name), "x-vault-") {
		return route.None{}, fault.New(op, fault.Invalid,
			"headers that begin with X-Vault- are the API's own; choose another name")
	}
	if len(in.Values) == 0 {
		return route.None{}, fault.New(op, fault.Invalid,
			"field \"values\": give at least one; to remove the header, delete it")
	}
	for _, v := range in.Values {
		if !httpguts.ValidHeaderFieldValue(v) {
			return route.None{}, fault.New(op, fault.Invalid,
				"field \"values\": a header's value has no line breaks or control characters; remove them")
		}
	}
	return route.None{}, UIHeaders.change(ctx, a.View, func(all *map[string][]string) error {
		if err := checkSpelling(*all, in.Name); err != nil {
			return err
		}
		*all = put(*all, in.Name, in.Values)
		return nil
	})
}

// put sets one member of a map that may be nil.
func put[T any](all map[string]T, name string, v T) map[string]T {
	if all == nil {
		all = map[string]T{}
	}
	all[name] = v
	return all
}

type headerIn struct {
	Name string `path:"name" doc:"The header's name."`
}

func (a *headerAPI) deleteUI(ctx context.Context, _ *route.Request, in headerIn) (route.None, error) {
	return route.None{}, UIHeaders.change(ctx, a.View, func(all *map[string][]string) error {
		delete(*all, in.Name)
		return nil
	})
}

type auditedOut struct {
	Headers map[string]HeaderRule `json:"headers"`
}

func (a *headerAPI) listAudited(ctx context.Context, r *route.Request, _ route.None) (*auditedOut, error) {
	all, err := AuditedHeader.Read(ctx, a.View)
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Merged)
	if all == nil {
		all = map[string]HeaderRule{}
	}
	return &auditedOut{all}, nil
}

func (a *headerAPI) readAudited(ctx context.Context, r *route.Request, in headerIn) (map[string]HeaderRule, error) {
	all, err := AuditedHeader.Read(ctx, a.View)
	if err != nil {
		return nil, err
	}
	rule, ok := all[in.Name]
	if !ok {
		return nil, fault.New("node.readAudited", fault.NotFound,
			"the header %q is not audited; sys/config/auditing/request-headers lists those that are", in.Name)
	}
	r.SetShape(route.Merged)
	return map[string]HeaderRule{in.Name: rule}, nil
}

type auditedIn struct {
	Name string `path:"name" doc:"The header's name."`
	HMAC bool   `json:"hmac" default:"false" doc:"Whether its values are hashed. Those of headers that carry tokens always are."`
}

// secretHeaders carry credentials: in the audit log their values are hashes.
var secretHeaders = []string{"x-vault-token", "authorization", "cookie", "proxy-authorization"}

func (a *headerAPI) writeAudited(ctx context.Context, _ *route.Request, in auditedIn) (route.None, error) {
	if err := checkHeader(in.Name); err != nil {
		return route.None{}, err
	}
	if !in.HMAC && slices.Contains(secretHeaders, strings.ToLower(in.Name)) {
		return route.None{}, fault.New("node.writeAudited", fault.Invalid,
			"field \"hmac\": the header %s carries credentials; send hmac=true", in.Name)
	}
	return route.None{}, AuditedHeader.change(ctx, a.View, func(all *map[string]HeaderRule) error {
		if err := checkSpelling(*all, in.Name); err != nil {
			return err
		}
		*all = put(*all, in.Name, HeaderRule{HMAC: in.HMAC})
		return nil
	})
}

func (a *headerAPI) deleteAudited(ctx context.Context, _ *route.Request, in headerIn) (route.None, error) {
	return route.None{}, AuditedHeader.change(ctx, a.View, func(all *map[string]HeaderRule) error {
		delete(*all, in.Name)
		return nil
	})
}
