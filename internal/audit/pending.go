package audit

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/keyturn/keyturn/internal/fault"
)

// Actions that only revoke access are done even if no device works. Their entries are rendered,
// stored, and written in order when a device works again. In the stored lines all secrets are
// hashed, even for a device with log_raw.

// pending is the stored form: the entries as each device would show them.
type pending struct {
	Lines map[string][]json.RawMessage `json:"lines"` // by the device's path
}

// Render returns entries in the form in which they can be stored, for [Broker.WriteRendered]; nil:
// no device is enabled, so nothing must be written.
func (b *Broker) Render(entries ...*Entry) []byte {
	sinks := *b.sinks.Load()
	if len(sinks) == 0 || len(entries) == 0 {
		return nil
	}
	o := pending{Lines: make(map[string][]json.RawMessage, len(sinks))}
	for _, s := range sinks {
		for _, e := range entries {
			o.Lines[s.path] = append(o.Lines[s.path], s.plain.entry(nil, e))
		}
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		// A Payload has broken its contract. Without payloads, the entry always encodes.
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

// WriteRendered writes stored entries, like [Broker.Write]. A device that was enabled later gets
// the lines of another, whose HMACs use that one's salt. If the server crashes before it removes
// the stored entries, their lines are written twice, with the same request ID.
func (b *Broker) WriteRendered(ctx context.Context, stored ...[]byte) error {
	var all []pending
	for _, text := range stored {
		var o pending
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
			for _, l := range o.forDevice(s.path) {
				g.text = append(g.text, l...)
				g.ends = append(g.ends, len(g.text))
			}
		}
	})
}

// forDevice returns the lines for a device or, if there are none, those for the first other one.
func (o pending) forDevice(path string) []json.RawMessage {
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
