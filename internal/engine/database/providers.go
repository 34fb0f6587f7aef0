package database

import (
	"slices"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// providers are the kinds of database of a mount.
type providers []Provider

// find returns the kind of database that has a plugin name.
func (ps providers) find(plugin string) (*Provider, error) {
	var names []string
	for i := range ps {
		if slices.Contains(ps[i].Plugins, plugin) {
			return &ps[i], nil
		}
		names = append(names, ps[i].Plugins...)
	}
	return nil, fault.New("database.provider", fault.Invalid, "field \"plugin_name\": there is no %q; there are %q",
		plugin, names)
}

// examplePlugin is a plugin name for error texts.
func (ps providers) examplePlugin() string {
	for _, p := range ps {
		if len(p.Plugins) > 0 {
			return p.Plugins[0]
		}
	}
	return ""
}

// params describes the settings of all kinds, for help and the reference.
func (ps providers) params() (all []route.Param) {
	for _, p := range ps {
		for _, s := range p.Settings {
			kind := map[Form]string{Text: "string", Flag: "boolean", Number: "integer", Secret: "string"}[s.Form]
			all = append(all, route.Param{
				Name: s.Name, In: "body", Type: kind, Secret: s.Form == Secret, Default: s.Default,
				Doc: "Of " + p.Name + ": " + s.Doc,
			})
		}
	}
	return all
}
