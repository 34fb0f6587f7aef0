package audit

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/keyturn/keyturn/internal/fault"
)

// What only takes access away goes on while no device writes. Its entries are
// then rendered, stored with the result in one commit, and written in their
// order when a device is back. They are stored as lines in which all secrets are
// hashed already, also for a device with log_raw.

// owed is the stored form: the same entries as each device would show them.
type owed struct {
	Lines map[string][]json.RawMessage `json:"lines"` // by the device's path
}

// Render returns entries in the form in which they can be stored, for
// [Broker.WriteRendered]; nil if no device is enabled and nothing is owed.
func (b *Broker) Render(entries ...*Entry) []byte {
	sinks := *b.sinks.Load()
	if len(sinks) == 0 || len(entries) == 0 {
		return nil
	}
	o := owed{Lines: make(map[string][]json.RawMessage, len(sinks))}
	for _, s := range sinks {
		for _, e := range entries {
			o.Lines[s.spec.Path] = append(o.Lines[s.spec.Path], s.plain.entry(nil, e))
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		// Only a Payload that breaks its contract comes here. The entry is
		// owed all the same: without its payloads, it always encodes.
		return b.Render(withoutData(entries)...)
	}
	return bytes.TrimSpace(out.Bytes())
}

// withoutData copies entries without their payloads.
func withoutData(entries []*Entry) []*Entry {
	bare := make([]*Entry, len(entries))
	for i, e := range entries {
		c := *e
		if e.Request != nil {
			q := *e.Request
			q.Data, q.text, q.textBy, c.Request = nil, nil, nil, &q
		}
		if e.Response != nil {
			r := *e.Response
			r.Data, c.Response = nil, &r
		}
		bare[i] = &c
	}
	return bare
}

// WriteRendered writes stored entries, in this order and together, as
// [Broker.Write] does. A device that was enabled later gets the lines of
// another: their HMACs are under that one's salt. After a crash before the stored
// entries are forgotten, the lines are written twice, with the same request id.
func (b *Broker) WriteRendered(ctx context.Context, stored ...[]byte) error {
	var all []owed
	for _, text := range stored {
		var o owed
		if err := json.Unmarshal(text, &o); err != nil {
			return fault.Wrap("audit.WriteRendered", fault.Internal, err)
		}
		for _, lines := range o.Lines {
			for _, l := range lines {
				if !bytes.HasPrefix(l, []byte(lineStart)) || bytes.IndexByte(l, '\n') >= 0 {
					return fault.New("audit.WriteRendered", fault.Internal, "a stored audit entry is damaged")
				}
			}
		}
		all = append(all, o)
	}
	if len(all) == 0 {
		return nil
	}
	return b.write(ctx, func(s *sink, g *group) {
		for _, o := range all {
			for _, l := range o.of(s.spec.Path) {
				g.text = append(g.text, l...)
				g.ends = append(g.ends, len(g.text))
			}
		}
	})
}

// of returns the lines for a device, or else those of the first other one.
func (o owed) of(path string) []json.RawMessage {
	if lines, ok := o.Lines[path]; ok {
		return lines
	}
	first := ""
	for p := range o.Lines {
		if first == "" || p < first {
			first = p
		}
	}
	return o.Lines[first]
}
