package audit

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// devicePrefix precedes the keys of enabled devices.
const devicePrefix = "core/audit/"

// deviceRow is the record of one enabled device.
type deviceRow struct {
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description,omitempty"`
	Options     map[string]string `json:"options,omitempty"`
	Local       bool              `json:"local,omitempty"`
	Salt        []byte            `json:"salt"` // the barrier encrypts it
}

// Enabled is one device as it is enabled and listed.
type Enabled struct {
	Path        string            `json:"path"`
	Type        string            `json:"type"`
	Description string            `json:"description"`
	Local       bool              `json:"local"`
	Options     map[string]string `json:"options"`
}

// Devices enables, disables and lists the audit devices. Safe for concurrent use.
type Devices struct {
	view   *barrier.View
	broker *Broker
	types  []Type

	mu    sync.Mutex
	rows  []deviceRow
	saved map[string]Position
}

// NewDevices returns the table of devices, empty until Restore.
func NewDevices(view *barrier.View, broker *Broker, types []Type) *Devices {
	return &Devices{view: view, broker: broker, types: types}
}

func (d *Devices) spec(row deviceRow) (Spec, error) {
	i := slices.IndexFunc(d.types, func(t Type) bool { return t.Name == row.Type })
	if i < 0 {
		return Spec{}, fault.New("audit.Devices", fault.Invalid,
			"field \"type\": there is no audit device %q; there is %s", row.Type, d.kinds())
	}
	return Spec{Type: d.types[i], Path: row.Path, Options: row.Options, Salt: secret.New(row.Salt)}, nil
}

// Restore opens the devices that were enabled before. One that cannot be opened stays enabled, but
// failing, because a missing disk must not turn auditing off.
func (d *Devices) Restore(ctx context.Context, log *slog.Logger) error {
	stood, err := d.view.Get(ctx, positionKey)
	if err != nil {
		return err
	}
	positions := map[string]Position{}
	if stood.Version != 0 {
		if err := json.Unmarshal(stood.Value, &positions); err != nil {
			return fault.Wrap("audit.Devices", fault.Internal, err)
		}
	}
	for e, err := range d.view.Scan(ctx, devicePrefix, storage.PrefixEnd(devicePrefix)) {
		if err != nil {
			return err
		}
		var row deviceRow
		if err := json.Unmarshal(e.Value, &row); err != nil {
			return fault.Wrap("audit.Devices", fault.Internal, err)
		}
		spec, err := d.spec(row)
		if err != nil {
			return err
		}
		spec.Resume = positions[row.Path]
		if err := d.broker.Restore(ctx, spec); err != nil {
			log.Error("opening an audit device; requests are refused until one writes", "device", row.Path, "error",
				err)
		}
		d.rows = append(d.rows, row)
	}
	return nil
}

// positionKey is the key of the devices' positions, with which a chain continues even if a file
// was rotated while the server was down.
const positionKey = "core/audit-position"

// SavePositions stores the devices' positions, if they have changed.
func (d *Devices) SavePositions(ctx context.Context) error {
	current := d.broker.Positions()
	d.mu.Lock()
	same := maps.Equal(current, d.saved)
	d.mu.Unlock()
	if same {
		return nil
	}
	b, err := json.Marshal(current)
	if err != nil {
		return fault.Wrap("audit.Devices", fault.Internal, err)
	}
	if _, err := d.view.Commit(ctx, storage.Set(positionKey, b)); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.saved = current
	return nil
}

// Enable opens a device and stores its record.
func (d *Devices) Enable(ctx context.Context, e Enabled) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	path := e.Path
	if path == "/" || strings.Contains(strings.TrimSuffix(path, "/"), "/") {
		return fault.New("audit.Devices", fault.Invalid, "path: it must be one name, such as \"file\", not %q", path)
	}
	row := deviceRow{
		Path: path, Type: e.Type, Description: e.Description, Options: e.Options, Local: e.Local, Salt: newSalt(),
	}
	spec, err := d.spec(row)
	if err != nil {
		return err
	}
	b, err := json.Marshal(row)
	if err != nil {
		return fault.Wrap("audit.Devices", fault.Internal, err)
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

// Disable closes a device and removes its record, if it exists.
func (d *Devices) Disable(ctx context.Context, path string) error {
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

// List returns the enabled devices.
func (d *Devices) List() []Enabled {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Enabled
	for _, r := range d.rows {
		out = append(out,
			Enabled{Path: r.Path, Type: r.Type, Description: r.Description, Local: r.Local, Options: r.Options})
	}
	return out
}

// Hash returns an input as a device shows it.
func (d *Devices) Hash(path string, input secret.Value) (string, error) {
	return d.broker.Hash(path, input)
}

// kinds lists the kinds of device, for errors.
func (d *Devices) kinds() string {
	var names []string
	for _, t := range d.types {
		names = append(names, strconv.Quote(t.Name))
	}
	return strings.Join(names, ", ")
}
