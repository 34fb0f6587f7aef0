package aws

import (
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/wire"
)

// apiSettings say how AWS is reached, and how users are named. They are the fields of config/root
// that the reference has, without the key pair. As there, a write sets all of them: a field that
// is not sent returns to its default, because HashiCorp's Terraform provider removes a field by
// not sending it.
type apiSettings struct {
	Region  string   `json:"region,omitempty"`
	IAM     string   `json:"iam,omitempty"`
	STS     endpoint `json:"sts,omitzero"`
	Others  []string `json:"others,omitempty"` // STS endpoints to use if sts_endpoint cannot be reached
	Regions []string `json:"regions,omitempty"`
	Retries int      `json:"retries"`
	Name    string   `json:"name,omitempty"` // template of user names; "" for defaultTemplate
}

type endpoint struct {
	URL    string `json:"url,omitempty"`
	Region string `json:"region,omitempty"`
}

// apiSettingsIn is a write of apiSettings. Nil fields were not sent.
type apiSettingsIn struct {
	Region    *string   `json:"region" default:"us-east-1" doc:"The region whose APIs are called."`
	IAM       *string   `json:"iam_endpoint" default:"AWS's own" doc:"The address of the IAM API."`
	STS       *string   `json:"sts_endpoint" default:"AWS's own" doc:"The address of the STS API."`
	STSRegion *string   `json:"sts_region" default:"region" doc:"The region of sts_endpoint."`
	Others    *[]string `json:"sts_fallback_endpoints" default:"none" doc:"Addresses of STS to use, in this order, if sts_endpoint cannot be reached."`
	Regions   *[]string `json:"sts_fallback_regions" default:"region" doc:"The regions of sts_fallback_endpoints, one for each."`
	Retries   **int     `json:"max_retries" default:"-1" doc:"How often a failed call is retried; -1: three times."`
	Name      *string   `json:"username_template" default:"vault-token-role-time-random" doc:"A template for the names of users and sessions, with fields and functions."`
}

// anyGiven reports whether a write has one of the fields, and so sets all of them.
func (in *apiSettingsIn) anyGiven() bool { return *in != apiSettingsIn{} }

// settings returns the written settings, with defaults for fields that were not sent.
func (in *apiSettingsIn) settings() apiSettings {
	r := apiSettings{Retries: -1}
	set(&r.Region, in.Region)
	set(&r.IAM, in.IAM)
	set(&r.STS.URL, in.STS)
	set(&r.STS.Region, in.STSRegion)
	set(&r.Others, in.Others)
	set(&r.Regions, in.Regions)
	wire.Default(&r.Retries, in.Retries, -1)
	set(&r.Name, in.Name)
	if r.Name == defaultTemplate {
		r.Name = ""
	}
	return r
}

// changedFields names the fields that differ.
func (c *apiSettings) changedFields(d *apiSettings) []string {
	var out []string
	for _, f := range []struct {
		differs bool
		name    string
	}{
		{c.IAM != d.IAM, "iam_endpoint"},
		{c.STS.URL != d.STS.URL, "sts_endpoint"},
		{!slices.Equal(c.Others, d.Others), "sts_fallback_endpoints"},
		{!slices.Equal(c.Regions, d.Regions), "sts_fallback_regions"},
		{c.STS.Region != d.STS.Region, "sts_region"},
		{c.Region != d.Region, "region"},
		{c.Retries != d.Retries, "max_retries"},
		{c.Name != d.Name, "username_template"},
	} {
		if f.differs {
			out = append(out, f.name)
		}
	}
	return out
}

// movedField is the first field that differs and that decides to which address calls are sent; ""
// for none.
func (c *apiSettings) movedField(d *apiSettings) string {
	for _, name := range c.changedFields(d) {
		if strings.HasSuffix(name, "_endpoint") || strings.HasSuffix(name, "_endpoints") {
			return name
		}
	}
	return ""
}

// resetFields names the fields that a write returns to their default, because it did not send
// them.
func (in *apiSettingsIn) resetFields(was, now *apiSettings) []string {
	given := map[string]bool{
		"iam_endpoint": in.IAM != nil, "sts_endpoint": in.STS != nil, "sts_fallback_endpoints": in.Others != nil,
		"sts_fallback_regions": in.Regions != nil,
		"sts_region":           in.STSRegion != nil, "region": in.Region != nil, "max_retries": in.Retries != nil,
		"username_template": in.Name != nil,
	}
	return slices.DeleteFunc(was.changedFields(now), func(name string) bool { return given[name] })
}

// template is username_template in an answer.
func (c *apiSettings) template() string {
	if c.Name == "" {
		return defaultTemplate
	}
	return c.Name
}
