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

// Fields describes every key of the configuration: those of the top level, of listeners, and of
// the known drivers.
func Fields(known Known) []Field {
	var all []Field
	for _, block := range []string{topBlock, tcpBlock, unixBlock, listenerTelemetry, telemetryBlock} {
		keys := keysOf(block)
		slices.SortFunc(keys, func(a, b key) int { return cmp.Compare(a.name, b.name) })
		for _, k := range keys {
			all = append(all, Field{block, k.name, k.kind, k.byDefault, k.doc, k.reload})
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
	Refused              bool // otherwise it is accepted with a warning
}

// AbsentKeys returns all absent keys, by block.
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

// places are the blocks in which a misplaced key may belong.
func places() []place {
	var all []place
	for _, block := range []string{topBlock, tcpBlock, unixBlock, listenerTelemetry} {
		all = append(all, place{block, namesOf(block, keysOf(block))})
	}
	return all
}

// keysOf returns the keys of a block, whose setters must not be used.
func keysOf(block string) []key {
	r, d := &report{}, &draft{}
	switch block {
	case topBlock:
		return append(topKeys(r, &Server{}), labelledKeys...)
	case tcpBlock:
		return tcpKeys(r, d)
	case unixBlock:
		return unixKeys(r, d)
	case listenerTelemetry:
		return telemetryKeys(r, d)
	case telemetryBlock:
		return pushKeys(r)
	}
	return nil
}
