package core

import (
	"strings"

	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/fault"
)

// kvTarget returns the versioned kv mount of a publication, and the path below it.
func kvTarget(m *mounts.Manager, path string) (*mounts.Open, string, error) {
	o := m.Snapshot().Route(path)
	if o == nil || o.Versioned == nil {
		return nil, "", fault.New("core.publish", fault.Invalid,
			"field \"path\": %q is not below a versioned kv mount; name one, such as \"secret/stripe\"", path)
	}
	rest, below := strings.CutPrefix(path, o.Entry().Path)
	if !below || rest == "" {
		return nil, "", fault.New("core.publish", fault.Invalid, "field \"path\": name a secret below %q", path)
	}
	return o, rest, nil
}

// apiSegments precede the path of a secret in requests to a versioned kv mount.
var apiSegments = []string{"data", "metadata", "delete", "undelete", "destroy", "subkeys"}

// publishable refuses a path that is not below a versioned kv mount, or that is written as in a
// request: "static/data/e" would be the secret "data/e".
func publishable(m *mounts.Manager, path string) error {
	o, rest, err := kvTarget(m, path)
	if err != nil {
		return err
	}
	for _, segment := range apiSegments {
		if below, ok := strings.CutPrefix(rest, segment+"/"); ok || rest == segment {
			right := o.Entry().Path + below
			if below == "" {
				right = o.Entry().Path + "name"
			}
			return fault.New("core.publish", fault.Invalid,
				"field \"path\": %q is how requests name a secret; write it without %q, as %q", path, segment+"/",
				right)
		}
	}
	return nil
}
