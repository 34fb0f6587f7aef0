package aws

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// root is how AWS is reached, and by whose access key.
type root struct {
	KeyID string `json:"key,omitempty"`
	reach
	Settle settle `json:"settle,omitzero"`

	Replaced [][]byte `json:"replaced,omitempty"` // digests of secrets that were written and rotated away; nobody can write others
	Made     bool     `json:"made,omitempty"`     // the key of now was made by rotate-root

	Secret secret.Value `json:"-"`
	stored storage.Version
}

// settle is how a new access key is proven to work; nil fields mean the default.
type settle struct {
	Checks *int           `json:"checks,omitempty"`
	Pause  *time.Duration `json:"pause,omitempty"`
}

// over is s where it says something, else base.
func (s settle) over(base settle) settle {
	if s.Checks != nil {
		base.Checks = s.Checks
	}
	if s.Pause != nil {
		base.Pause = s.Pause
	}
	return base
}

func (s settle) check() error {
	switch {
	case s.Checks != nil && (*s.Checks < 0 || *s.Checks > 50):
		return invalid("field \"propagation_checks\": %d must be from 0, which disables them, to 50", *s.Checks)
	case s.Pause != nil && (*s.Pause < 0 || *s.Pause > time.Minute):
		return invalid("field \"propagation_settle\": %s must be from 0s to 1m", *s.Pause)
	}
	return nil
}

// storedRoot is what the barrier encrypts.
type storedRoot struct {
	*root
	Secret []byte `json:"secret,omitempty"`
}

func (c *root) put() (storage.Op, error) {
	b, err := json.Marshal(storedRoot{root: c, Secret: c.Secret.Reveal()})
	return storage.Set(rootKey, b).If(c.stored), fault.Wrap("aws.put", fault.Internal, err)
}

// config reads the root configuration; nil for none.
func (b *backend) config(ctx context.Context) (*root, error) {
	e, err := b.m.Store.Get(ctx, rootKey)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	s := storedRoot{root: &root{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &s); err != nil {
		return nil, fault.Wrap("aws.config", fault.Internal, err)
	}
	s.root.Secret = secret.New(s.Secret)
	return s.root, nil
}

// client is the configuration as the client wants it.
func (c *root) client(m *engine.Mount) client.Config {
	out := client.Config{
		KeyID: c.KeyID, Secret: c.Secret, Region: c.Region, IAM: c.IAM, STS: client.Endpoint{URL: c.STS.URL, Region: c.STS.Region},
		MaxRetries: c.Retries, Dial: m.Host.Dial, Files: m.Host.Files,
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

// digest is of a secret key, for comparing.
func digest(s secret.Value) []byte {
	h := hmac.New(sha256.New, []byte("keyturn aws root"))
	h.Write(s.Reveal())
	return h.Sum(nil)
}

func (c *root) replaced(s secret.Value) bool {
	d := digest(s)
	for _, r := range c.Replaced {
		if hmac.Equal(r, d) {
			return true
		}
	}
	return false
}

// rootIn is the root configuration as it is written. What is nil was not given.
type rootIn struct {
	KeyID  *string       `json:"access_key" doc:"The access key that creates users and sessions. If this and secret_key are empty, the server uses the credentials that AWS's own tools find on this machine. If both are left out, the stored key is kept."`
	Secret *secret.Value `json:"secret_key" doc:"The secret key that belongs to access_key. It is never read back."`

	reachIn

	Checks **int           `json:"propagation_checks" default:"5" doc:"How many calls in a row a new access key must be accepted by AWS before it is used, within a minute; 0: none, and no wait."`
	Pause  **time.Duration `json:"propagation_settle" default:"5s" doc:"The wait after these calls."`

	automaticIn
	laterIn
}

// laterIn are fields that are known and not built yet.
type laterIn struct {
	RoleARN  wire.Raw `json:"role_arn" doc:"Not implemented yet; refused."`
	Audience wire.Raw `json:"identity_token_audience" doc:"Not implemented yet; refused."`
	TokenTTL wire.Raw `json:"identity_token_ttl" doc:"Not implemented yet; refused."`
}

func (l *laterIn) refuse() error {
	for _, f := range []struct {
		name string
		v    wire.Raw
	}{
		{"role_arn", l.RoleARN}, {"identity_token_audience", l.Audience}, {"identity_token_ttl", l.TokenTTL},
	} {
		switch strings.TrimSpace(string(f.v.Reveal())) {
		case "", "null", `""`, "0", `"0"`, `"0s"`:
		default:
			return invalid("field %q: it is planned and not built yet; leave it out, and give access_key and secret_key", f.name)
		}
	}
	return nil
}

// configs are the routes below config/.
type configs struct{ *backend }

func (b configs) writeRoot(ctx context.Context, r *route.Request, in rootIn) (route.None, error) {
	if err := in.refuse(); err != nil {
		return route.None{}, err
	}
	return route.None{}, b.rotations.Change(ctx, rootKind, rootKind, nil, func(e *rotate.Edit) error {
		c, err := b.written(ctx, r, &in)
		if err != nil {
			return err
		}
		d, was := rootOf(e.Rec), b.kind().Timing(e.Rec)
		if err := in.automaticIn.apply(&d.When); err != nil {
			return err
		}
		if c.KeyID == "" && !d.When.Never() {
			return invalid("field \"rotation_period\" or \"rotation_schedule\": there is no access_key in config/root to rotate; give access_key and secret_key, or set disable_automated_rotation=true")
		}
		if err := e.Unlock(ctx); err != nil {
			return err
		}
		undone := (in.KeyID != nil || in.Secret != nil) && newPair(e, c)
		if err := d.keep(e.Rec); err != nil {
			return err
		}
		due := e.Control().Retime(was)
		if undone {
			due = e.Now
		}
		op, err := c.put()
		if err != nil {
			return err
		}
		e.Ops = append(e.Ops, op)
		return e.Commit(ctx, "configured", due)
	})
}

// written is the configuration as a write makes it, but for when the key is rotated.
func (b configs) written(ctx context.Context, r *route.Request, in *rootIn) (*root, error) {
	c, err := b.config(ctx)
	if err != nil {
		return nil, err
	}
	if c == nil {
		c = &root{reach: new(reachIn).reach()}
	}
	was := *c
	if err := in.apply(c); err != nil {
		return nil, err
	}
	if err := c.check(r); err != nil {
		return nil, err
	}
	if moved := was.moves(&c.reach); moved != "" && !was.Secret.Empty() && c.KeyID != "" && in.Secret == nil {
		return nil, invalid("field %q: this write changes where the stored key is used; give the field as it is, or access_key and secret_key again, a new pair if rotate-root has replaced them; a field that is left out returns to its default", moved)
	}
	if gone := in.leftOut(&was.reach, &c.reach); len(gone) > 0 {
		r.Warn("left out of the write, and so by default again: %s", strings.Join(gone, ", "))
	}
	if c.KeyID == "" {
		r.Warn("%s", c.ambient())
	}
	if was.Made && c.KeyID != was.KeyID {
		r.Warn("the access key %s was made by rotate-root and is forgotten by this write: nobody knows its secret any more, and it lives on; delete it in AWS", was.KeyID)
	}
	return c, nil
}

// ambient says what it means that there is no key.
func (c *root) ambient() string {
	text := "access_key and secret_key are empty: credentials come from where AWS's own tools find them on this server (environment, the machine's role, and shared files in the server's connection_folders), and rotate-root is not possible"
	if slices.ContainsFunc(append([]string{c.IAM, c.STS.URL}, c.Others...), func(u string) bool { return !client.Own(u) }) {
		text += "; they are sent to AWS's own addresses alone, so that calls to the other endpoints given are refused"
	}
	return text
}

func (in *rootIn) apply(c *root) error {
	if in.Secret != nil && c.replaced(*in.Secret) {
		return invalid("field \"secret_key\": it belongs to a key that rotate-root has replaced; leave access_key and secret_key out to keep the one that is stored, %s", c.KeyID)
	}
	pair := in.KeyID != nil || in.Secret != nil
	set(&c.KeyID, in.KeyID)
	set(&c.Secret, in.Secret)
	switch {
	case pair && c.KeyID == "" && !c.Secret.Empty() && in.Secret != nil:
		return invalid("field \"access_key\" is empty and secret_key is not, as an unset variable makes it; give both, or neither to use the credentials of this server's environment")
	case pair && c.KeyID != "" && (c.Secret.Empty() || in.Secret == nil):
		return invalid("field \"secret_key\" is empty and access_key is not, as an unset variable makes it; give both, or neither to use the credentials of this server's environment")
	case c.KeyID == "":
		c.Secret = secret.Value{}
	}
	if pair {
		c.Made = false
	}
	if pair || in.reachIn.given() {
		c.reach = in.reachIn.reach()
	}
	set(&c.Settle.Checks, in.Checks)
	set(&c.Settle.Pause, in.Pause)
	return nil
}

// regionForm is what stands in the names of AWS's hosts.
var regionForm = regexp.MustCompile(`^([a-z0-9-]{1,40})?$`)

func (c *root) check(r *route.Request) error {
	for _, f := range []struct{ name, url string }{{"iam_endpoint", c.IAM}, {"sts_endpoint", c.STS.URL}} {
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
		return invalid("field \"sts_fallback_regions\": there are %d and %d sts_fallback_endpoints; give one for each", len(c.Regions), len(c.Others))
	case c.Retries < -1 || c.Retries > 100:
		return invalid("field \"max_retries\": %d must be from 0 to 100, or -1 for AWS's default", c.Retries)
	}
	if err := checkName(r, c.Name); err != nil {
		return err
	}
	return c.Settle.check()
}

func (c *root) checkRegions() error {
	for field, regions := range map[string][]string{"region": {c.Region}, "sts_region": {c.STS.Region}, "sts_fallback_regions": c.Regions} {
		for _, r := range regions {
			if !regionForm.MatchString(r) {
				return invalid("field %q: %q is no region; write one such as eu-west-1", field, clip(r))
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
		return invalid("field %q: an address has %d bytes at most; write one such as https://sts.eu-west-1.amazonaws.com", field, maxAddress)
	}
	// The text is not repeated: it may hold a password, where it does not belong.
	u, err := url.Parse(client.Address(text))
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https":
		return invalid("field %q: it is not an address; write one such as https://sts.eu-west-1.amazonaws.com", field)
	case u.Port() != "" && !isPort(u.Port()):
		return invalid("field %q: the port must be a number from 1 to 65535", field)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return invalid("field %q: an address must not have a user, password, parameters or fragment; take them out, because calls are signed with access_key and secret_key", field)
	}
	return nil
}

func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n != 0
}

// rootOut is the root configuration as it is shown.
type rootOut struct {
	KeyID     string         `json:"access_key"`
	IAM       string         `json:"iam_endpoint"`
	Retries   int            `json:"max_retries"`
	Region    string         `json:"region"`
	STS       string         `json:"sts_endpoint"`
	Name      string         `json:"username_template"`
	STSRegion string         `json:"sts_region,omitempty"`
	Others    []string       `json:"sts_fallback_endpoints,omitempty"`
	Regions   []string       `json:"sts_fallback_regions,omitempty"`
	Checks    *int           `json:"propagation_checks,omitempty"`
	Pause     *time.Duration `json:"propagation_settle,omitempty"`

	automaticOut
}

func (b configs) readRoot(ctx context.Context, _ *route.Request, _ route.None) (*rootOut, error) {
	c, err := b.config(ctx)
	if err != nil || c == nil {
		return nil, err
	}
	out := &rootOut{
		KeyID: c.KeyID, IAM: c.IAM, Retries: c.Retries, Region: c.Region, STS: c.STS.URL, Name: c.template(),
		STSRegion: c.STS.Region, Others: c.Others, Regions: c.Regions, Checks: c.Settle.Checks,
	}
	rec, _, err := b.rotations.Read(ctx, rootKind, rootKind)
	if err != nil {
		return nil, err
	}
	out.Pause, out.automaticOut = c.Settle.Pause, automaticOf(rec)
	return out, nil
}

// leaseTTLs are for users whose role has none.
type leaseTTLs struct {
	TTL time.Duration `json:"ttl"`
	Max time.Duration `json:"max"`
}

type leaseIn struct {
	TTL *time.Duration `json:"lease" doc:"The TTL of users whose role has no default_ttl."`
	Max *time.Duration `json:"lease_max" doc:"How long they can be renewed, counted from their creation."`
}

type leaseOut struct {
	TTL string `json:"lease"`
	Max string `json:"lease_max"`
}

func (b *backend) leaseTTLs(ctx context.Context) (*leaseTTLs, error) {
	e, err := b.m.Store.Get(ctx, leaseKey)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	l := new(leaseTTLs)
	return l, fault.Wrap("aws.lease", fault.Internal, json.Unmarshal(e.Value, l))
}

func (b configs) writeLease(ctx context.Context, _ *route.Request, in leaseIn) (route.None, error) {
	switch {
	case in.TTL == nil || *in.TTL <= 0:
		return route.None{}, invalid("field \"lease\" is required; give a duration such as 1h")
	case in.Max == nil || *in.Max <= 0:
		return route.None{}, invalid("field \"lease_max\" is required; give a duration such as 4h")
	case *in.TTL > *in.Max:
		return route.None{}, invalid("field \"lease\": %s is above lease_max, %s; lower it", *in.TTL, *in.Max)
	}
	text, err := json.Marshal(leaseTTLs{*in.TTL, *in.Max})
	if err != nil {
		return route.None{}, fault.Wrap("aws.lease", fault.Internal, err)
	}
	_, err = b.m.Store.Commit(ctx, storage.Set(leaseKey, text))
	return route.None{}, err
}

func (b configs) readLease(ctx context.Context, _ *route.Request, _ route.None) (*leaseOut, error) {
	l, err := b.leaseTTLs(ctx)
	if err != nil || l == nil {
		return nil, err
	}
	return &leaseOut{l.TTL.String(), l.Max.String()}, nil
}
