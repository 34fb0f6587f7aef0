package inprocess_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/memory"
	"github.com/keyturn/keyturn/internal/wire"
)

// An update treats a field that is absent, null or empty in the same way everywhere:
//
//	absent   keeps what is there
//	null     clears: the default holds again; refused where there is none
//	""       keeps, where an empty text is no value (durations, numbers, booleans)
//	0        of a duration or a number means "not configured", and so the default
//
// The table of updates in fields_table_test.go says what is written to each field of each route. A
// new field of a route belongs into it.

type fields = map[string]any

// absent removes a field of the base.
var absent = new(struct{})

func with(base fields, over fields) fields {
	out := fields{}
	maps.Copy(out, base)
	maps.Copy(out, over)
	maps.DeleteFunc(out, func(_ string, v any) bool { return v == absent })
	return out
}

// An update is a route that changes an object by its fields.
type update struct {
	op    route.Op
	mount string   // the type of the mount for each field; "" for none
	setup []setup  // writes before the object
	path  string   // the path of the object; {m} is the mount, a new one for each field
	read  string   // the path to read; path by default
	base  fields   // the fields that create the object
	each  fields   // fields of every write
	over  []field  // the fields to test
	moves []string // values of the object that are no fields
}

type setup struct {
	path string
	body fields
}

// A field is written, read and cleared.
type field struct {
	name  string
	value any
	with  fields // other fields that the object needs
	along fields // other fields of the write that sets it
	clear fields // other fields of the write that clears it
	// required means that clearing is refused.
	required bool
	// hidden means that it is never read back.
	hidden bool
	// each means that every write must have it.
	each bool
	// zero means that 0 is a value of its own.
	zero bool
	// together means that a write of one such field replaces all of them, as in the reference.
	together bool
}

// everything is a server with every engine, and their targets.
type everything struct {
	*server
	aws *awstest.Server
	db  *databasetest.Fake
}

func startEverything(t *testing.T) *everything {
	t.Helper()
	w := &everything{aws: awstest.Start(t, awstest.Options{}), db: new(databasetest.Fake)}
	engines := slices.Clone(plugins.Engines)
	i := slices.IndexFunc(engines, func(e engine.Type) bool { return e.Name == "database" })
	engines[i] = database.New(append(slices.Clone(plugins.Databases), w.db.Provider())...)
	w.server, _ = launch(t, core.Config{
		Store: memory.Open(), StorageName: "memory", ClusterName: "test",
		Types: core.Types{Engines: engines, Auths: plugins.AuthMethods},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.aws.Dial(ctx, network, address)
		},
	})
	w.must(t, route.Write, "sys/mounts/secret", w.root, `{"type":"kv-v2"}`)
	return w
}

func (w *everything) send(t *testing.T, op route.Op, path string, body fields) error {
	t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ask(t, op, path, w.root, string(b))
	return err
}

// TestFieldsOfUpdates checks the rules above for every field of the table.
func TestFieldsOfUpdates(t *testing.T) {
	w := startEverything(t)
	for name, u := range updates() {
		t.Run(name, func(t *testing.T) {
			for i, f := range u.over {
				m := fmt.Sprintf("%s%d",
					strings.Trim(strings.NewReplacer("/", "-", "{", "", "}", "", ".", "", " ", "-").Replace(name),
						"-"), i)
				w.db.AddUser(m, "password-of-"+m)
				w.db.AddUser(m+"-2", "password-of-"+m)
				w.aws.AddUser(awstest.Account, m)
				t.Run(f.name, func(t *testing.T) { w.try(t, m, u, f) })
			}
		})
	}
}

func (w *everything) try(t *testing.T, m string, u update, f field) {
	if u.mount != "" {
		w.must(t, route.Write, "sys/mounts/"+m, w.root, `{"type":"`+u.mount+`"}`)
	}
	body := func(b fields) fields { return inside(with(u.each, b), m) }
	in := func(text string) string { return strings.ReplaceAll(text, "{m}", m) }
	for _, s := range u.setup {
		if err := w.send(t, route.Write, in(s.path), inside(s.body, m)); err != nil {
			t.Fatalf("%s: %v", s.path, err)
		}
	}
	path, read := in(u.path), in(u.read)
	if read == "" {
		read = path
	}
	look := func() fields {
		got := fields{}
		if a, err := w.ask(t, route.Read, read, w.root, ""); err != nil {
			t.Fatalf("reading %s: %v", read, err)
		} else {
			maps.Copy(got, a.Data)
		}
		for _, k := range u.moves {
			delete(got, k)
		}
		return got
	}
	write := func(b fields) {
		t.Helper()
		if err := w.send(t, u.op, path, body(b)); err != nil {
			t.Fatalf("writing %v: %v", b, err)
		}
	}
	base := with(u.base, f.with)
	if u.op == route.Patch { // the object must exist
		if err := w.send(t, route.Write, path, body(base)); err != nil {
			t.Fatalf("writing %v: %v", base, err)
		}
	} else {
		write(base)
	}
	before := look()
	write(with(with(base, f.along), fields{f.name: f.value}))
	changed := look()
	if !f.hidden && !f.required && cmp.Equal(before, changed) {
		t.Fatalf("%v was written, and nothing is seen of it: %v", f.value, changed)
	}
	write(fields{}) // a write without the field
	if got := look(); !cmp.Equal(got, changed) {
		t.Errorf("a write of nothing changed it:\n%s", cmp.Diff(changed, got))
	}
	if w.textual(f) && !f.together && !f.each {
		write(fields{f.name: ""})
		if got := look(); !cmp.Equal(got, changed) {
			t.Errorf("an empty text does not keep it:\n%s", cmp.Diff(changed, got))
		}
	}
	err := w.send(t, u.op, path, body(with(f.clear, fields{f.name: nil})))
	if f.required {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("null of a field that is required: %v, want it refused", err)
		}
		if got := look(); !cmp.Equal(got, changed) {
			t.Errorf("a refused write changed it:\n%s", cmp.Diff(changed, got))
		}
		return
	}
	if err != nil {
		t.Fatalf("null: %v", err)
	}
	if got := look(); !cmp.Equal(got, before) {
		t.Errorf("null does not clear it:\n%s", cmp.Diff(before, got))
	}
	if f.zero || !w.numeric(f) {
		return
	}
	write(with(with(base, f.along), fields{f.name: f.value}))
	write(with(f.clear, fields{f.name: 0}))
	if got := look(); !cmp.Equal(got, before) {
		t.Errorf("0 does not mean that it is not configured:\n%s", cmp.Diff(before, got))
	}
}

// inside replaces {m} by the mount.
func inside(body fields, m string) fields {
	out := fields{}
	for k, v := range body {
		if s, ok := v.(string); ok {
			v = strings.ReplaceAll(s, "{m}", m)
		}
		out[k] = v
	}
	return out
}

// textual reports whether an empty text is no value of a field.
func (w *everything) textual(f field) bool {
	_, truth := f.value.(bool)
	return truth || w.numeric(f)
}

// numeric reports whether a field is a number or a duration.
func (w *everything) numeric(f field) bool {
	switch v := f.value.(type) {
	case int:
		return true
	case string:
		d, err := wire.ParseDuration(v)
		return err == nil && d > 0
	}
	return false
}

// TestFieldsAreInTheTable checks that TestFieldsOfUpdates covers each field of each route with a
// body, unless the route does not change fields. There, the decoder treats null and "" as absent.
func TestFieldsAreInTheTable(t *testing.T) {
	table := updates()
	for at, routes := range everyRoute(t, newOutside()) {
		if at == "issuer/" {
			continue
		}
		for _, r := range routes {
			if r.Op != route.Write && r.Op != route.Patch {
				continue
			}
			name := at + r.Pattern
			if r.Op == route.Patch {
				name = "patch " + name
			}
			u, isUpdate := table[name]
			delete(table, name)
			for _, p := range r.Params() {
				if p.In != "body" || p.Name == "(the body)" {
					continue
				}
				if why := exempt(name, p.Name); isUpdate && why == "" &&
					!slices.ContainsFunc(u.over, func(f field) bool { return f.name == p.Name }) {
					t.Errorf("%s: the field %q is in no row of the table of updates: add it, or say why not", name,
						p.Name)
				}
			}
			if !isUpdate {
				nullIsAbsent(t, name, r.In)
			}
		}
	}
	for name := range table {
		t.Errorf("the table of updates has %q, which is no route", name)
	}
}

// nullIsAbsent checks that no field of a one-time request distinguishes null, or an empty text
// that is no value, from absent.
func nullIsAbsent(t *testing.T, name string, in reflect.Type) {
	t.Helper()
	if in.Kind() != reflect.Struct {
		return
	}
	for _, f := range reflect.VisibleFields(in) {
		field, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if field == "" || field == "-" || opts == "whole" || exempt(name, field) != "" {
			continue
		}
		for _, value := range []string{"null", `""`} {
			got := reflect.New(in)
			if _, err := wire.Decode([]byte(`{"`+field+`":`+value+`}`), got.Interface()); err != nil {
				continue // null is refused
			}
			v := got.Elem().FieldByIndex(f.Index)
			if v.Kind() == reflect.Pointer && !v.IsNil() && v.Elem().Kind() != reflect.Pointer {
				t.Errorf("%s: the field %q is told as given where it is %s; make it no pointer, or a pointer to a "+
					"pointer", name, field, value)
			}
		}
	}
}
