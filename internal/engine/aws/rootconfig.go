package aws

import (
	"crypto/hmac"
	"crypto/sha256"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// rootConfig is config/root: how AWS is reached, and with which access key.
type rootConfig struct {
	KeyID string `json:"key,omitempty"`
	apiSettings
	Propagation propagation `json:"settle,omitzero"`

	Replaced  [][]byte `json:"replaced,omitempty"` // digests of written secret keys that a rotation has replaced
	Generated bool     `json:"made,omitempty"`     // a rotation has created the current key

	Secret secret.Value `json:"-"`
	stored storage.Version
}

func (c *rootConfig) storeOp() (storage.Op, error) {
	op, err := rootRow.Set("", storedRoot{rootConfig: *c, Secret: c.Secret.Reveal()})
	return op.If(c.stored), err
}

// storedRoot is the stored form of config/root. The barrier encrypts it.
type storedRoot struct {
	rootConfig
	Secret []byte `json:"secret,omitempty"`
}

// clientConfig is the configuration of a client.
func (c *rootConfig) clientConfig(m *engine.Mount) client.Config {
	out := client.Config{
		KeyID: c.KeyID, Secret: c.Secret, Region: c.Region, IAM: c.IAM, MaxRetries: c.Retries,
		STS: client.Endpoint{URL: c.STS.URL, Region: c.STS.Region}, Dial: m.Host.Dial, Files: m.Host.Files,
	}
	for i, u := range c.Others {
		e := client.Endpoint{URL: u}
		if i < len(c.Regions) {
			e.Region = c.Regions[i]
		}
		out.Fallback = append(out.Fallback, e)
	}
	return out
}

// secretDigest is for comparing secret keys.
func secretDigest(s secret.Value) []byte {
	h := hmac.New(sha256.New, []byte("keyturn aws root"))
	h.Write(s.Reveal())
	return h.Sum(nil)
}

func (c *rootConfig) wasReplaced(s secret.Value) bool {
	d := secretDigest(s)
	for _, r := range c.Replaced {
		if hmac.Equal(r, d) {
			return true
		}
	}
	return false
}

// ambientWarning says what it means to configure no key.
func (c *rootConfig) ambientWarning() string {
	text := "access_key and secret_key are empty: credentials come from where AWS's own tools find them on this " +
		"server (environment, the machine's role, and shared files in the server's connection_folders), and " +
		"rotate-root is not possible"
	if slices.ContainsFunc(append([]string{c.IAM, c.STS.URL}, c.Others...),
		func(u string) bool { return !client.Own(u) }) {
		text += "; they are sent only to AWS's own addresses, so that calls to the other endpoints given are refused"
	}
	return text
}

// propagation says how to verify that a new access key works. Nil fields mean the default.
type propagation struct {
	Checks *int           `json:"checks,omitempty"`
	Pause  *time.Duration `json:"pause,omitempty"`
}

// orDefault returns base with the fields that s sets.
func (s propagation) orDefault(base propagation) propagation {
	if s.Checks != nil {
		base.Checks = s.Checks
	}
	if s.Pause != nil {
		base.Pause = s.Pause
	}
	return base
}

func (s propagation) check() error {
	switch {
	case s.Checks != nil && (*s.Checks < 0 || *s.Checks > 50):
		return invalid("field \"propagation_checks\": %d must be from 0, which disables them, to 50", *s.Checks)
	case s.Pause != nil && (*s.Pause < 0 || *s.Pause > time.Minute):
		return invalid("field \"propagation_settle\": %s must be from 0s to 1m", *s.Pause)
	}
	return nil
}

// regionForm is the form of regions, which are part of AWS's host names.
var regionForm = regexp.MustCompile(`^([a-z0-9-]{1,40})?$`)

func (c *rootConfig) check(r *route.Request) error {
	for _, f := range []struct{ name, url string }{{name: "iam_endpoint", url: c.IAM},
		{name: "sts_endpoint", url: c.STS.URL}} {
		if err := checkURL(f.name, f.url); err != nil {
			return err
		}
	}
	if err := c.checkRegions(); err != nil {
		return err
	}
	for _, u := range c.Others {
		if err := checkURL("sts_fallback_endpoints", u); err != nil {
			return err
		}
	}
	switch {
	case len(c.Regions) > 0 && len(c.Regions) != len(c.Others):
		return invalid("field \"sts_fallback_regions\": there are %d and %d sts_fallback_endpoints; give one for each",
			len(c.Regions), len(c.Others))
	case c.Retries < -1 || c.Retries > 100:
		return invalid("field \"max_retries\": %d must be from 0 to 100, or -1 for AWS's default", c.Retries)
	}
	if err := checkName(r, c.Name); err != nil {
		return err
	}
	return c.Propagation.check()
}

func (c *rootConfig) checkRegions() error {
	for field, regions := range map[string][]string{"region": {c.Region}, "sts_region": {c.STS.Region},
		"sts_fallback_regions": c.Regions} {
		for _, r := range regions {
			if !regionForm.MatchString(r) {
				return invalid("field %q: %q is not a region; write one such as eu-west-1", field, clip(r))
			}
		}
	}
	return nil
}

// maxAddress is the longest address of an endpoint in bytes.
const maxAddress = 2048

func checkURL(field, text string) error {
	if text == "" {
		return nil
	}
	if len(text) > maxAddress {
		return invalid(
			"field %q: an address can have at most %d bytes; write one such as "+
				"https://sts.eu-west-1.amazonaws.com", field,
			maxAddress)
	}
	// Errors do not repeat the text, because it may contain a password.
	u, err := url.Parse(client.Address(text))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return invalid("field %q: it is not an address; write one such as https://sts.eu-west-1.amazonaws.com", field)
	case u.Port() != "" && !isPort(u.Port()):
		return invalid("field %q: the port must be a number from 1 to 65535", field)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return invalid("field %q: an address must not have a user, password, parameters or fragment; remove them, "+
			"because calls are signed with access_key and secret_key", field)
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n != 0
}
