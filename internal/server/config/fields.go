package config

import (
	"cmp"
	"maps"
	"slices"
)

// A Field is one key of the configuration, for the reference.
type Field struct {
	Block   string // "" for the top level, `listener "tcp"`, `storage "pebble"` …
	Name    string
	Type    string
	Default string
	Doc     string
	Reload  bool // SIGHUP re-reads it
}

// Fields describes every key that the parser takes, the top level first, then
// listeners, and the stanzas of the drivers that are known.
func Fields(known Known) []Field {
	var all []Field
	for _, block := range []string{topBlock, tcpBlock, unixBlock, listenerTelemetry, telemetryBlock} {
		keys := keysOf(block)
		slices.SortFunc(keys, func(a, b key) int { return cmp.Compare(a.name, b.name) })
		for _, k := range keys {
			all = append(all, Field{block, k.name, k.takes, k.without, k.doc, k.reload})
		}
	}
	for _, d := range known.Storage {
		for _, k := range d.Params {
			all = append(all, Field{"storage \"" + d.Name + "\"", k.Name, k.Takes, k.Default, k.Doc, false})
		}
	}
	for _, d := range known.Seals {
		for _, k := range d.Params {
			all = append(all, Field{"seal \"" + d.Name + "\"", k.Name, k.Takes, k.Default, k.Doc, false})
		}
	}
	return all
}

// An Absent is a key that Vault documents and this server does not have, for the reference.
type Absent struct {
	Block, Name, Instead string
	Refused              bool // else it is taken with a warning
}

// AbsentKeys are all of them, by block.
func AbsentKeys() []Absent {
	var all []Absent
	add := func(block string, keys map[string]absence) {
		for _, name := range slices.Sorted(maps.Keys(keys)) {
			all = append(all, Absent{block, name, keys[name].instead, !keys[name].harmless})
		}
	}
	add("the top level", absent[topBlock])
	add("`"+tcpBlock+"`", absent[tcpBlock])
	add("`"+unixBlock+"`", absent[unixBlock])
	add("`"+telemetryBlock+"`", absent[telemetryBlock])
	add("`storage`", storageKeys)
	add("`seal`", sealKeys)
	return all
}
