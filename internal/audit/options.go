package audit

import (
	"crypto/rand"
	"log/slog"
	"maps"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/secret"
)

// Options of a [Broker]. The zero value is usable.
type Options struct {
	StorageDir string           // where no device may write; may be empty
	Folders    hostfile.Folders // where devices may write files; none: see [Config]
	Timeout    time.Duration    // of one write; 0: [DefaultTimeout]
	Log        *slog.Logger     // nil: no log
}

// DefaultTimeout is how long a device may take for a write. A local file takes microseconds; a log
// shipper that takes seconds would delay every request by as much.
const DefaultTimeout = 2 * time.Second

// A Spec describes one enabled device.
type Spec struct {
	Type    Type
	Path    string            // where it is enabled: "file/"
	Options map[string]string // as the operator gave them; see [Broker.Enable]
	Salt    secret.Value      // made at random when the device was enabled, at least 16 bytes
	// Resume is a position that the device has reached. The chain continues from there, or from
	// the device's last line if that is later.
	Resume Position
}

// minSalt is the minimum length of a device's salt. With a shorter salt, short secrets could be
// guessed from their HMACs.
const minSalt = 16

// options are the common options of all devices.
type options struct {
	raw          bool // log_raw: no hashing
	hashAccessor bool // hmac_accessor: hash token accessors, too (default)
	elideLists   bool // elide_list_responses: only the number of keys
	device       map[string]string
}

func (s Spec) parse() (options, error) {
	o := options{hashAccessor: true, device: maps.Clone(s.Options)}
	if o.device == nil {
		o.device = map[string]string{}
	}
	if s.Path == "" {
		return o, fault.New("audit.Enable", fault.Invalid, "path: an audit device needs a path, such as \"file\"")
	}
	if s.Salt.Len() < minSalt {
		return o, fault.New("audit.Enable", fault.Internal, "the audit device %q has no salt", s.Path)
	}
	for name, to := range map[string]*bool{
		"log_raw": &o.raw, "hmac_accessor": &o.hashAccessor, "elide_list_responses": &o.elideLists,
	} {
		if err := o.flag(name, to); err != nil {
			return o, err
		}
	}
	if o.device["prefix"] != "" {
		return o, fault.New("audit.Enable", fault.Invalid,
			"prefix: text before each line is refused, because it could turn the audit file into a script; leave "+
				"the option out")
	}
	if f := o.device["format"]; f != "" && f != "json" {
		return o, fault.New("audit.Enable", fault.Invalid,
			"format: %q is not supported; use \"json\" or leave the option out", f)
	}
	delete(o.device, "prefix")
	delete(o.device, "format")
	return o, nil
}

// refused returns a device that is enabled but always failing, because its stored options are
// invalid.
func (s Spec) refused(why error) Spec {
	s.Salt = secret.New(newSalt())
	s.Type.Open = func(Config) (Device, error) { return nil, why }
	return s
}

// flag removes a boolean option from the device's own, and stores its value in to.
func (o *options) flag(name string, to *bool) error {
	text, given := o.device[name]
	delete(o.device, name)
	if !given || text == "" {
		return nil
	}
	v, err := strconv.ParseBool(text)
	if err != nil {
		return fault.New("audit.Enable", fault.Invalid, "%s: want true or false, got %q", name, text)
	}
	*to = v
	return nil
}

// newSalt returns a random salt for a new device.
func newSalt() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return b
}
