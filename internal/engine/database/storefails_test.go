package database_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

var errStore = errors.New("the store is away")

// failing is a store of which one call fails that concerns the mount.
type failing struct {
	storage.Store

	mu     sync.Mutex
	left   int    // calls that pass before the one that fails
	struck string // the call that failed; "": none yet
}

// fail makes the call after n others fail.
func (f *failing) fail(n int) { f.mu.Lock(); defer f.mu.Unlock(); f.left, f.struck = n, "" }

// heal makes no call fail, and returns the one that did.
func (f *failing) heal() string { f.mu.Lock(); defer f.mu.Unlock(); f.left = -1; return f.struck }

func (f *failing) strikes(call string, keys ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range keys {
		if !strings.HasPrefix(key, "mount/"+enginetest.UUID+"/") || f.left < 0 {
			continue
		}
		if f.left--; f.left < 0 {
			f.struck = call + " " + key
			return errStore
		}
		return nil
	}
	return nil
}

func (f *failing) Get(ctx context.Context, key string) (storage.Entry, error) {
	if err := f.strikes("get", key); err != nil {
		return storage.Entry{}, err
	}
	return f.Store.Get(ctx, key)
}

func (f *failing) Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error] {
	if err := f.strikes("scan", from); err != nil {
		return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, err) }
	}
	return f.Store.Scan(ctx, from, to)
}

func (f *failing) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	var keys []string
	for _, op := range b.Ops {
		keys = append(keys, op.Key)
	}
	if err := f.strikes("commit", keys...); err != nil {
		return 0, err
	}
	return f.Store.Commit(ctx, b)
}

// storeCases are requests, with what is there before.
var storeCases = map[string]struct {
	before func(w *world) // nil: nothing more
	do     func(w *world) error
	spared string // the call whose failure keeps the request from nothing
}{
	"write a config":       {do: does(route.Write, "config/second", with(prod, fields{"rotation_period": "1h"}))},
	"write a config again": {do: does(route.Write, "config/prod", fields{"max_open_connections": 3})},
	"have root rotate":     {do: does(route.Write, "config/prod", fields{"rotation_period": "1h"})},
	"move a config": {do: does(route.Write, "config/prod",
		fields{"connection_url": "fake://{{username}}:{{password}}@other", "password": databasetest.FakePassword})},
	"read a config":   {do: does(route.Read, "config/prod", nil)},
	"list configs":    {do: does(route.List, "config", nil)},
	"delete a config": {do: does(route.Delete, "config/prod", nil)},
	"delete a config that rotates": {
		before: func(w *world) { w.Must(w.t, route.Write, "config/prod", fields{"rotation_period": "1h"}) },
		do:     does(route.Delete, "config/prod", nil),
	},
	"reset":         {do: does(route.Write, "reset/prod", nil)},
	"reload":        {do: does(route.Write, "reload/fake-database-plugin", nil)},
	"rotate root":   {do: does(route.Write, "rotate-root/prod", nil)},
	"write a role":  {do: does(route.Write, "roles/second", ro)},
	"read a role":   {do: does(route.Read, "roles/ro", nil)},
	"list roles":    {do: does(route.List, "roles", nil)},
	"delete a role": {do: does(route.Delete, "roles/ro", nil)},
	"read creds":    {do: does(route.Read, "creds/ro", nil)},
	"read creds of a name that is made again": {
		before: func(w *world) {
			w.Must(w.t, route.Write, "config/prod", fields{"username_template": "{{.RoleName}}"})
		},
		do: does(route.Read, "creds/ro", nil),
	},
	"read creds that are kept": {
		before: func(w *world) { w.Must(w.t, route.Write, "roles/ro", fields{"reuse": "token"}) },
		do:     does(route.Read, "creds/ro", nil),
		spared: "commit mount/m/again/", // the next read makes another user
	},
	"read creds again": {
		before: func(w *world) { w.Must(w.t, route.Write, "roles/ro", fields{"reuse": "token"}); w.issue("ro") },
		do:     does(route.Read, "creds/ro", nil),
	},
	"renew": {
		before: func(w *world) { w.issue("ro") },
		do:     func(w *world) error { _, err := w.Renew(w.IDs(w.t)[0], 0); return err },
	},
	"revoke": {
		before: func(w *world) { w.issue("ro") },
		do:     revokeFirst,
	},
	"revoke what is kept": {
		before: func(w *world) { w.Must(w.t, route.Write, "roles/ro", fields{"reuse": "token"}); w.issue("ro") },
		do:     revokeFirst,
		spared: "mount/m/again/", // what is kept is given out for an unexpired lease alone
	},
	"revoke with a note": {
		before: func(w *world) {
			w.setNote(func(database.DropOptions) database.Report {
				return database.Report{Insufficient: true, Notes: []string{"they did nothing"}}
			})
			w.issue("ro")
		},
		do:     revokeFirst,
		spared: "mount/m/note/", // the user is gone, and the next one brings the note again
	},
	"revoke a name that is made again": {
		before: func(w *world) {
			w.Must(w.t, route.Write, "config/prod", fields{"username_template": "{{.RoleName}}"})
			w.issue("ro")
		},
		do: revokeFirst,
	},
	"write a static role": {do: does(route.Write, "static-roles/svc", svc)},
	"write a static role that the database refuses": {
		before: func(w *world) { w.fake.SetDown(true) },
		do: func(w *world) error {
			err := does(route.Write, "static-roles/svc", svc)(w)
			if err == nil || !strings.Contains(err.Error(), "fake") {
				return err
			}
			return nil // as it is to be
		},
		spared: "get mount/m/", // what is read after the refusal decides on another try alone
	},
	"write a static role beside another connection": {
		before: func(w *world) { w.Must(w.t, route.Write, "config/second", with(prod, fields{"allowed_roles": "*"})) },
		do:     does(route.Write, "static-roles/svc", svc),
	},
	"write a static role as it is": {do: does(route.Write, "static-roles/svc",
		with(svc, fields{"skip_import_rotation": true, "password": oldPassword}))},
	"write a static role again": {before: static,
		do: does(route.Write, "static-roles/svc", fields{"rotation_period": "2h"})},
	"read a static role":   {before: static, do: does(route.Read, "static-roles/svc", nil)},
	"list static roles":    {before: static, do: does(route.List, "static-roles", nil)},
	"delete a static role": {before: static, do: does(route.Delete, "static-roles/svc", nil)},
	"read static creds":    {before: static, do: does(route.Read, "static-creds/svc", nil)},
	"rotate a static role": {before: static, do: does(route.Write, "rotate-role/svc", nil)},
	"write a config in the middle of its rotation": {
		before: rootUnknown,
		do:     does(route.Write, "config/prod", fields{"max_open_connections": 3}),
	},
	"read creds in the middle of a rotation of root": {before: rootUnknown, do: does(route.Read, "creds/ro", nil)},
	"rotate root again":                             {before: rootUnknown, do: does(route.Write, "rotate-root/prod", nil)},
	"delete a config in the middle of its rotation": {before: rootUnknown, do: does(route.Delete, "config/prod", nil)},
	"read static creds in the middle of a rotation": {
		before: staticUnknown,
		do: func(w *world) error { // the reader may be given the password from before, with a warning
			a, err := w.Do(route.Read, "static-creds/svc", nil)
			if err == nil && len(a.Warnings) > 0 {
				err = errors.New(a.Warnings[0])
			}
			return err
		},
	},
	"read static creds whose first password is not known": {
		before: func(w *world) { firstUnknown(w) },
		do:     readFirst,
	},
	"rotate a static role again": {before: staticUnknown, do: does(route.Write, "rotate-role/svc", nil)},
	"bury a config": {
		before: func(w *world) { w.Must(w.t, route.Delete, "config/prod", nil) },
		do:     func(w *world) error { return w.work("bury", "conn/") },
	},
	"bury a config that rotated": {
		before: func(w *world) {
			w.Must(w.t, route.Write, "rotate-root/prod", nil)
			w.Must(w.t, route.Delete, "config/prod", nil)
		},
		do: func(w *world) error { return w.work("bury", "conn/") },
	},
	"bury a config with leases": {
		before: func(w *world) { w.issue("ro"); w.Must(w.t, route.Delete, "config/prod", nil) },
		do:     func(w *world) error { return w.work("bury", "conn/") },
	},
	"go on with a rotation of root": {before: rootUnknown,
		do: func(w *world) error { return w.work("root", "root/") }},
	"go on with a static role": {before: staticUnknown,
		do: func(w *world) error { return w.work("static", "static/") }},
	"ask whether a config is there":      {do: asks("config/prod")},
	"ask whether a role is there":        {do: asks("roles/ro")},
	"ask whether a static role is there": {before: static, do: asks("static-roles/svc")},
	"ask what is unfinished": {before: static,
		do: func(w *world) error { return w.Engine.(engine.Keeper).Unfinished(context.Background()) }},
}

// work does the due work of a kind on the first row below a prefix.
func (w *world) work(kind, prefix string) error {
	prefix = "mount/" + enginetest.UUID + "/" + prefix
	for e, err := range w.View.Scan(context.Background(), prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return err
		}
		return w.Engine.(engine.Worker).Work(context.Background(), kind, strings.TrimPrefix(e.Key, prefix))
	}
	return nil // it is gone
}

// asks is what decides whether a write creates or updates.
func asks(path string) func(w *world) error {
	return func(w *world) error {
		table, err := route.NewTable(w.Engine.Routes())
		if err != nil {
			return err
		}
		r := &route.Request{Op: route.Write, Rest: path, Caller: &route.Caller{}}
		found, err := table.Find(r)
		if err == nil {
			_, err = found.Exists(context.Background(), r)
		}
		return err
	}
}

func revokeFirst(w *world) error {
	if ids := w.IDs(w.t); len(ids) > 0 {
		return w.Revoke(ids[0])
	}
	return nil // the try before has done it
}

// readFirst reads a first password. A read that failed counts as an attempt to set it, so the next
// one waits for the back-off. It runs in a bubble.
func readFirst(w *world) error {
	_, err := w.Do(route.Read, "static-creds/svc", nil)
	if err != nil && strings.Contains(err.Error(), "the next attempt is at") {
		time.Sleep(time.Minute)
		_, err = w.Do(route.Read, "static-creds/svc", nil)
	}
	return err
}

// rootUnknown has a rotation of the administrator's password go on of which nobody knows whether
// it took place.
func rootUnknown(w *world) {
	w.fake.LoseReplies(1)
	_, _ = w.Do(route.Write, "rotate-root/prod", nil)
}

func staticUnknown(w *world) {
	static(w)
	w.fake.LoseReplies(1)
	_, _ = w.Do(route.Write, "rotate-role/svc", nil)
}

func static(w *world) { w.Must(w.t, route.Write, "static-roles/svc", svc) }

// A request of which any one call to the store fails is refused: it never takes what it could not
// read for absent, nor what it could not write for written.
func TestStoreErrorsAreTold(t *testing.T) {
	for name, c := range storeCases {
		t.Run(name, func(t *testing.T) {
			for n, more := 0, true; more; n++ {
				synctest.Test(t, func(t *testing.T) { more = fails(t, n, c.before, c.do, c.spared) })
			}
		})
	}
}

func does(op route.Op, path string, body any) func(w *world) error {
	return func(w *world) error { _, err := w.Do(op, path, body); return err }
}

// fails runs do while the call after n others fails, and reports whether there was one. It runs in
// a bubble.
func fails(t *testing.T, n int, before func(w *world), do func(w *world) error, spared string) bool {
	st := &failing{Store: enginetest.Memory(), left: -1}
	w := ready(t, enginetest.Config{Store: st})
	w.Must(t, route.Write, "config/prod", fields{"allowed_roles": "*"})
	w.fake.AddUser("svc", oldPassword)
	if before != nil {
		before(w)
	}
	synctest.Wait()
	leases := len(w.IDs(t))
	st.fail(n)
	err := do(w)
	struck := st.heal()
	if struck == "" {
		if err != nil {
			t.Errorf("with nothing that fails: %v", err)
		}
		return false
	}
	if told := err != nil && strings.Contains(err.Error(), "the storage does not work"); !told &&
		(spared == "" || !strings.Contains(struck, spared)) {
		t.Errorf("%s failed, and the answer is: %v", struck, err)
	}
	time.Sleep(time.Second)
	if now := len(w.IDs(t)); strings.HasPrefix(struck, "get ") && now > leases {
		t.Errorf("%s failed, and a lease is left of which the database has surely not heard", struck)
	}
	if err := do(w); err != nil {
		t.Errorf("after %s had failed, the next request: %v", struck, err)
	}
	return true
}
