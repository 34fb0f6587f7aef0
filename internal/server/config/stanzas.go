package config

import (
	"maps"
	"slices"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/seal"
	"github.com/keyturn/keyturn/internal/storage"
)

// storageAliases are old names of drivers.
var storageAliases = map[string]string{"inmem": "memory"}

func (p *parser) storage(b labelled) {
	if p.server.Storage.Name != "" {
		p.report.problem(b.at, "storage: it is given already at %s; take one out", p.server.Storage.At)
		return
	}
	if b.name == "backend" {
		p.report.warn(b.at, "backend: it is the old name of storage; write that")
	}
	name := b.label
	if now, old := storageAliases[name]; old {
		name = now
	}
	p.server.Storage = Stanza{At: b.at, Name: name}
	i := slices.IndexFunc(p.known.Storage, func(d storage.Driver) bool { return d.Name == name })
	if i < 0 {
		p.report.problem(b.at, "there is no storage %q: %s; write %s", b.label, storageInstead(b.label),
			examples["storage"])
		return
	}
	d := p.known.Storage[i]
	if name == "memory" {
		p.report.warn(b.at, "storage %q: everything is lost when the server stops; use storage \"pebble\" to keep it",
			b.label)
	}
	names := make([]string, len(d.Params))
	for i, one := range d.Params {
		names[i] = one.Name
	}
	problems := len(p.report.problems)
	p.server.Storage.Params = p.params(b, names, storageKeys)
	if d.Check == nil || len(p.report.problems) > problems {
		return
	}
	if err := d.Check(p.server.Storage.Params); err != nil {
		p.report.problem(b.at, "%s", Reason(err))
	}
}

func (p *parser) seal(b labelled) {
	if p.seals++; p.seals > 1 {
		p.report.problem(b.at,
			"seal: it is given already at %s; take one out, because several seals and moving from one to another are not implemented yet",
			p.server.Seal.At)
		return
	}
	p.server.Seal = Stanza{At: b.at, Name: b.label}
	i := slices.IndexFunc(p.known.Seals, func(d seal.Driver) bool { return d.Name == b.label })
	switch {
	case i >= 0:
	case slices.Contains(vaultSeals, b.label):
		p.report.problem(b.at,
			"seal %q: it is not implemented yet; use seal \"static\", with a key from a file or variable that your key service fills, or shamir",
			b.label)
		return
	default:
		p.report.problem(b.at, "there is no seal %q; use shamir or static", b.label)
		return
	}
	d := p.known.Seals[i]
	names := make([]string, len(d.Params))
	for i, one := range d.Params {
		names[i] = one.Name
	}
	problems := len(p.report.problems)
	p.server.Seal.Params = p.params(b, names, sealKeys)
	if len(p.report.problems) > problems {
		return
	}
	if _, err := d.Open(p.server.Seal.Params); err != nil {
		p.report.problem(b.at, "%s", Reason(err))
	}
}

// params reads a driver's own members. The driver checks their values.
func (p *parser) params(b labelled, names []string, vaults map[string]absence) map[string]string {
	params, seen := map[string]string{}, map[string]bool{}
	for _, item := range b.list.Items {
		name, at := label(item, 0), p.report.at(item)
		a, vault := vaults[name]
		switch {
		case seen[name]:
			p.report.problem(at, "%s: it is given twice in %s %q; take one out", name, b.name, b.label)
		case slices.Contains(names, name):
			if text, _, ok := p.report.literal(item); ok {
				params[name] = text
			}
		case vault && a.harmless:
			p.report.warn(at, "%s: it has no effect: %s", name, a.instead)
		case vault:
			p.report.problem(at, "%s: it is not supported: %s", name, a.instead)
		case fault.Nearest(name, names) != "":
			p.report.problem(at, "unknown key %q in %s %q; did you mean %q?", name, b.name, b.label,
				fault.Nearest(name, names))
		default:
			p.report.problem(at, "unknown key %q in %s %q; take it out (docs/reference/config.md has all keys)", name,
				b.name, b.label)
		}
		seen[name] = true
	}
	return params
}

func (s Stanza) equal(t Stanza) bool { return s.Name == t.Name && maps.Equal(s.Params, t.Params) }
