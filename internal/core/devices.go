package core

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/sys"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// devicePrefix is where enabled audit devices are kept.
const devicePrefix = "core/audit/"

// deviceRow is the record of one enabled device.
type deviceRow struct {
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Salt        []byte            `json:"salt"` // the barrier encrypts it
}

// devices enables, disables and lists the audit devices. It is what sys/audit
// works with.
type devices struct {
	view   *barrier.View
	broker *audit.Broker
	types  []audit.Type

	mu   sync.Mutex
	rows []deviceRow
}

func (d *devices) spec(row deviceRow) (audit.Spec, error) {
	i := slices.IndexFunc(d.types, func(t audit.Type) bool { return t.Name == row.Type })
	if i < 0 {
		return audit.Spec{}, fault.New("core.devices", fault.Invalid, "there is no audit device of type %q", row.Type)
	}
	return audit.Spec{Type: d.types[i], Path: row.Path, Options: row.Options, Salt: secret.New(row.Salt)}, nil
}

// restore opens the devices that were enabled before. One that cannot be
// opened stays enabled and failing: it must not become "nothing to audit to".
func (d *devices) restore(ctx context.Context, log *slog.Logger) error {
	for e, err := range d.view.Scan(ctx, devicePrefix, storage.PrefixEnd(devicePrefix)) {
		if err != nil {
			return err
		}
		var row deviceRow
		if err := json.Unmarshal(e.Value, &row); err != nil {
			return fault.Wrap("core.devices", fault.Internal, err)
		}
		spec, err := d.spec(row)
		if err != nil {
			return err
		}
		if err := d.broker.Restore(ctx, spec); err != nil {
			log.Error("opening an audit device; requests are refused until one writes", "device", row.Path, "error", err)
		}
		d.rows = append(d.rows, row)
	}
	return nil
}

// Enable implements [sys.Devices].
func (d *devices) Enable(ctx context.Context, path, typ, description string, options map[string]string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if path == "/" || strings.Contains(strings.TrimSuffix(path, "/"), "/") {
		return fault.New("core.devices", fault.Invalid, "the path %q must be one name, such as \"file\"", path)
	}
	if slices.ContainsFunc(d.rows, func(r deviceRow) bool { return r.Path == path }) {
		return fault.New("core.devices", fault.Invalid, "an audit device is enabled at %q already", path)
	}
	row := deviceRow{Path: path, Type: typ, Description: description, Options: options, Salt: randomBytes(32)}
	spec, err := d.spec(row)
	if err != nil {
		return err
	}
	b, err := json.Marshal(row)
	if err != nil {
		return fault.Wrap("core.devices", fault.Internal, err)
	}
	if err := d.broker.Enable(ctx, spec); err != nil {
		return err
	}
	if _, err := d.view.Commit(ctx, storage.Set(devicePrefix+path, b)); err != nil {
		if derr := d.broker.Disable(path); derr != nil {
			return derr
		}
		return err
	}
	d.rows = append(d.rows, row)
	return nil
}

// Disable implements [sys.Devices]. One that is not there is success.
func (d *devices) Disable(ctx context.Context, path string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.IndexFunc(d.rows, func(r deviceRow) bool { return r.Path == path })
	if i < 0 {
		return nil
	}
	if _, err := d.view.Commit(ctx, storage.Remove(devicePrefix+path)); err != nil {
		return err
	}
	d.rows = slices.Delete(slices.Clone(d.rows), i, i+1)
	return d.broker.Disable(path)
}

// List implements [sys.Devices].
func (d *devices) List() []sys.Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []sys.Device
	for _, r := range d.rows {
		out = append(out, sys.Device{Path: r.Path, Type: r.Type, Description: r.Description, Options: r.Options})
	}
	return out
}

// Hash implements [sys.Devices].
func (d *devices) Hash(path string, input secret.Value) (string, error) {
	return d.broker.Hash(path, input)
}

// Types implements [sys.Devices].
func (d *devices) Types() []audit.Type { return d.types }
