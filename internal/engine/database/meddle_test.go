package database_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/faulty"
)

// A meddler lets others do something right before a row is read.
type meddler struct {
	storage.Store
	mu     sync.Mutex
	before func(key string)
	commit func(key string)
}

func (m *meddler) Commit(ctx context.Context, b storage.Batch) (storage.Version, error) {
	m.mu.Lock()
	commit := m.commit
	m.mu.Unlock()
	for _, op := range b.Ops {
		if commit != nil {
			commit(op.Key)
		}
	}
	return m.Store.Commit(ctx, b)
}

func (m *meddler) Get(ctx context.Context, key string) (storage.Entry, error) {
	m.mu.Lock()
	before := m.before
	m.mu.Unlock()
	if before != nil {
		before(key)
	}
	return m.Store.Get(ctx, key)
}

// once runs do before the next read of a key with a part, if it is time for it.
func (m *meddler) once(part string, ready func() bool, do func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.before = func(key string) {
		if !strings.Contains(key, part) || !ready() {
			return
		}
		m.mu.Lock()
		m.before = nil
		m.mu.Unlock()
		do()
	}
}

// rewrite changes the row of the connection prod as it is stored.
func (w *world) rewrite(change func(row map[string]any)) (id string) {
	w.t.Helper()
	const mount = "mount/" + enginetest.UUID + "/"
	for e, err := range w.View.Scan(context.Background(), mount+"conn/", storage.PrefixEnd(mount+"conn/")) {
		row := map[string]any{}
		if err != nil || json.Unmarshal(e.Value, &row) != nil {
			w.t.Fatalf("%s: %v", e.Key, err)
		}
		change(row)
		b, err := json.Marshal(row)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := w.View.Commit(context.Background(), storage.Set(e.Key, b)); err != nil {
			w.t.Fatal(err)
		}
		id = strings.TrimPrefix(e.Key, mount+"conn/")
	}
	return id
}

// A reader reads the record and its secrets by two reads. A rotation that ends between them does
// not leave it without a password.
func TestReadWhileItRotates(t *testing.T) {
	m := &meddler{Store: enginetest.Memory()}
	w := withUsers(t, enginetest.Config{Store: m}, "svc")
	w.Must(t, route.Write, "static-roles/svc", svc)
	m.once("sts/svc", func() bool { return true }, func() { w.Must(t, route.Write, "rotate-role/svc", nil) })
	w.given("svc")
}

// The administrator's password is set by hand and written while a rotation is about to end: what
// was written is not overwritten unseen.
func TestRootIsWrittenAsItsRotationEnds(t *testing.T) {
	m := &meddler{Store: enginetest.Memory()}
	w := ready(t, enginetest.Config{Store: m})
	changed := func() bool { return w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword) != nil }
	m.once("/conn/", changed, func() {
		w.fake.SetRoot("by-hand")
		w.rewrite(func(row map[string]any) { row["pw"], row["revision"] = []byte("by-hand"), 100 })
	})
	w.Must(t, route.Write, "rotate-root/prod", nil)
	w.issue("ro")
	if w.fake.Login(databasetest.FakeAdmin, "by-hand") == nil {
		t.Error("the rotation is over, and has rotated nothing")
	}
}

// Another server begins the first rotation of a connection while this one writes another
// administrator: the rotation is ended before.
func TestWrittenAsAnotherServerRotates(t *testing.T) {
	m := &meddler{Store: enginetest.Memory()}
	w := ready(t, enginetest.Config{Store: m})
	w.fake.AddUser("other", oldPassword)
	other := (&world{t: t, fake: w.fake, log: new(enginetest.Log)}).open(enginetest.Config{Store: m})
	m.mu.Lock()
	m.commit = func(key string) {
		if !strings.Contains(key, "/conn/") {
			return
		}
		m.mu.Lock()
		m.commit = nil
		m.mu.Unlock()
		w.fake.LoseReplies(1)
		if _, err := other.Do(route.Write, "rotate-root/prod", nil); err == nil {
			t.Error("a rotation without a reply is over")
		}
	}
	m.mu.Unlock()
	w.Must(t, route.Write, "config/prod", fields{"username": "other", "password": oldPassword})
	w.issue("ro")
	w.Must(t, route.Write, "rotate-root/prod", nil)
	w.issue("ro")
}

// A connection that an earlier version has deleted keeps the time of its next rotation: it is not
// rotated any more, since nobody could be told of the new password. What was under way ends.
func TestDeletedRootOfBefore(t *testing.T) {
	for _, under := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := ready(t, enginetest.Config{})
			_, _, lease := w.issue("ro")
			w.Must(t, route.Delete, "config/prod", nil)
			id := w.rewrite(func(row map[string]any) {
				at := time.Now().Add(-time.Second).UTC().Truncate(time.Second)
				root := map[string]any{"next": at, "due": at}
				if row["root"] = root; under {
					root["turn"], row["fresh"] = true, []byte("fresh-password")
				}
			})
			for range 3 {
				if err := w.Engine.(engine.Worker).Work(context.Background(), "root", id); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute)
			}
			if err := w.fake.Login(databasetest.FakeAdmin, databasetest.FakePassword); (err == nil) == under {
				t.Errorf("under way %v: the password from before: %v", under, err)
			}
			if n := w.keys("root/"); n != 0 {
				t.Errorf("under way %v: %d records are left", under, n)
			}
			if err := w.Revoke(lease); err != nil {
				t.Error(err)
			}
		})
	}
}

// Who deletes a connection whose password an earlier version was changing has decided: the mount
// can be disabled.
func TestDeletedWhileRootOfBeforeTurns(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.rewrite(func(row map[string]any) {
		row["root"], row["fresh"] = map[string]any{"turn": true,
			"due": time.Now().Add(time.Hour)}, []byte("fresh-password")
	})
	unfinished := func() error { return w.Engine.(engine.Keeper).Unfinished(context.Background()) }
	if err := unfinished(); !fault.Is(err, fault.Conflict) ||
		!strings.Contains(fault.Message(err), `connection "prod"`) {
		t.Errorf("in the middle of it: %v", err)
	}
	w.Must(t, route.Delete, "config/prod", nil)
	if err := unfinished(); err != nil {
		t.Error(err)
	}
}

// A store that fails does not hide a change of a password that an earlier version has begun: the
// mount is not disabled.
func TestUnfinishedWhileTheStoreFails(t *testing.T) {
	st := faulty.New(enginetest.Memory(), 1)
	w := ready(t, enginetest.Config{Store: st})
	w.rewrite(func(row map[string]any) {
		row["root"], row["fresh"] = map[string]any{"turn": true,
			"due": time.Now().Add(time.Hour)}, []byte("fresh-password")
	})
	st.Inject(faulty.Fault{Calls: faulty.Gets, Prefix: "mount/" + enginetest.UUID + "/conn/", Times: -1})
	if err := w.Engine.(engine.Keeper).Unfinished(context.Background()); err == nil {
		t.Error("the mount can be disabled in the middle of a change")
	}
}

// A connection that was moved, with the password that it had, has the same one there: a rotation
// that had no effect goes on from it once the statements are right.
func TestRootMovedWithItsPassword(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "config/prod", fields{"root_rotation_statements": "FAIL"})
	w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "")
	w.Must(t, route.Write, "config/prod",
		with(prod, fields{"connection_url": "fake://{{username}}:{{password}}@elsewhere",
			"root_rotation_statements": "NOTHING"}))
	w.Refused(t, route.Write, "rotate-root/prod", nil, fault.Upstream, "check root_rotation_statements")
	w.Must(t, route.Write, "config/prod", fields{"root_rotation_statements": ""})
	w.Must(t, route.Write, "rotate-root/prod", nil)
	if err := w.Engine.(engine.Keeper).Unfinished(context.Background()); err != nil {
		t.Error(err)
	}
}

// A request that finds a failed rotation being taken back makes another, even where the window is
// over by then: it does not say that it has rotated what it has not.
func TestRequestAfterTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &meddler{Store: enginetest.Memory()}
		w := withUsers(t, enginetest.Config{Store: m}, "svc")
		w.Must(t, route.Write, "static-roles/svc",
			with(svc, fields{"rotation_period": nil, "rotation_schedule": "0 * * * *", "rotation_window": "1h"}))
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": "NOTHING"})
		_, before := w.given("svc")
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour - time.Second)))
		commits := 0
		m.mu.Lock()
		m.commit = func(key string) {
			if strings.HasSuffix(key, "/sts/svc") {
				if commits++; commits == 2 { // it is about to be taken back
					w.fake.SetDown(true)
				}
			}
		}
		m.mu.Unlock()
		time.Sleep(59*time.Minute + 56*time.Second)
		synctest.Wait()
		w.fake.SetDown(false)
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": ""})
		w.Must(t, route.Write, "rotate-role/svc", nil)
		if _, now := w.given("svc"); now == before || commits < 3 {
			t.Errorf("it says that it has rotated, and has not; %d commits", commits)
		}
	})
}
