package database_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// stored are the rows of a store that the version before rotate has left in the middle of
// everything.
const stored = "testdata/records-2.txt"

// storedRow is what such a row holds of passwords.
type storedRow struct {
	Users     []string `json:"users"`
	Passwords [][]byte `json:"pw"`
	Fresh     []byte   `json:"fresh"`
	Turn      *struct {
		User int  `json:"user"`
		Sent bool `json:"sent"`
	} `json:"turn"`
}

// asStored has the database as it may have been when the rows were stored; took: it has made what
// it was sent last.
func (w *world) asStored(took bool) {
	w.t.Helper()
	const prefix = "mount/" + enginetest.UUID + "/static/"
	for e, err := range w.View.Scan(context.Background(), prefix, storage.PrefixEnd(prefix)) {
		var row storedRow
		if err != nil || json.Unmarshal(e.Value, &row) != nil {
			w.t.Fatalf("%s: %v", e.Key, err)
		}
		for i, user := range row.Users {
			password := oldPassword
			if len(row.Passwords[i]) > 0 {
				password = string(row.Passwords[i])
			}
			if t := row.Turn; t != nil && t.Sent && t.User == i && took {
				password = string(row.Fresh)
			}
			w.fake.AddUser(user, password)
		}
	}
}

// TestStaticRolesOfBefore: static roles in every stage of a change go on where they were, whether
// or not the database has made it.
func TestStaticRolesOfBefore(t *testing.T) {
	for _, took := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := open(t, enginetest.Config{})
			w.Restore(t, stored)
			w.asStored(took)
			w.Reopen(t)
			roles := []string{"done", "known", "sent", "failed", "left", "certified", "own", "first"}
			before := map[string]string{}
			for _, role := range roles {
				_, before[role] = w.given(role)
			}
			if a := w.Must(t, route.Read, "static-roles/failed", nil); a.Data["failures"] != 2.0 ||
				!strings.Contains(fmt.Sprint(a.Data["last_error"]), "refused a statement") {
				t.Errorf("the failures of before: %s", a.Text)
			}
			time.Sleep(59 * time.Minute)
			for _, role := range append(roles, "keyed") {
				if role == "failed" {
					continue // it waits for its time
				}
				if a := w.Must(t, route.Read, "static-roles/"+role, nil); a.Data["failures"] != nil ||
					a.Data["last_error"] != nil {
					t.Errorf("took %v: %s has not gone on: %s", took, role, a.Text)
				}
				if role == "keyed" {
					continue // its login cannot be tried
				}
				waits := role == "done" || role == "known" || role == "certified"
				if _, now := w.given(role); waits && now != before[role] {
					t.Errorf("%s was rotated early", role)
				}
			}
			time.Sleep(61 * time.Minute)
			synctest.Wait()
			for _, role := range roles {
				if _, now := w.given(role); now == before[role] {
					t.Errorf("%s was not rotated at its time", role)
				}
				w.Must(t, route.Write, "rotate-role/"+role, nil)
				w.given(role)
			}
			if a := w.Must(t, route.Read, "static-roles/certified", nil); a.Data["failures"] != nil {
				t.Errorf("the authority's key was lost: %s", a.Text)
			}
			if n, want := w.Work(t), len(roles)+1+2; n != want {
				t.Errorf("%d due items, want those of %d roles and two connections", n, want-2)
			}
		})
	}
}

// TestRootOfBefore: a change of an administrator's password that was under way goes on, whether or
// not the database has made it. One that failed is tried again at its time, and one that was
// rotated away still does not come back.
func TestRootOfBefore(t *testing.T) {
	for _, took := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := open(t, enginetest.Config{})
			w.Restore(t, stored)
			id, err := w.View.Get(context.Background(), "mount/"+enginetest.UUID+"/config/sent")
			if err != nil {
				t.Fatal(err)
			}
			var row struct{ PW, Fresh []byte }
			e, err := w.View.Get(context.Background(), "mount/"+enginetest.UUID+"/conn/"+string(id.Value))
			if err != nil || json.Unmarshal(e.Value, &row) != nil {
				t.Fatalf("%s, %v", e.Value, err)
			}
			now := row.PW
			if took {
				now = row.Fresh
			}
			w.fake.SetRoot(string(now))
			w.Reopen(t)
			if err := w.Engine.(engine.Keeper).Unfinished(context.Background()); !fault.Is(err, fault.Conflict) {
				t.Errorf("the mount can be disabled in the middle of it: %v", err)
			}
			shown := map[string]rotate.State{}
			for s, err := range w.Engine.(engine.Rotator).Rotations().Statuses(context.Background()) {
				if shown[s.Path] = s.State; err != nil {
					t.Errorf("%s: %v", s.Path, err)
				}
			}
			if shown["mount/config/sent"] != rotate.Setting || shown["mount/config/failing"] != rotate.Scheduled {
				t.Errorf("before anything has changed, the status shows %v", shown)
			}
			if _, there := shown["mount/config/prod"]; there {
				t.Error("the status shows a connection whose password does not rotate")
			}
			w.Must(t, route.Write, "roles/ro", with(ro, fields{"db_name": "sent"}))
			w.issue("ro") // finds out first
			time.Sleep(10 * time.Minute)
			a := w.Must(t, route.Read, "config/sent", nil)
			if a.Data["last_root_error"] != nil || a.Data["last_root_rotation"] == nil ||
				w.fake.Login("admin", string(row.PW)) == nil {
				t.Errorf("took %v: it has not gone on: %s", took, a.Text)
			}
			w.issue("ro")
			w.Must(t, route.Write, "rotate-root/sent", nil)
			w.issue("ro")
			if a := w.Must(t, route.Read, "config/failing", nil); a.Data["last_root_error"] == nil ||
				a.Data["next_root_rotation"] != "2000-01-02T00:00:00Z" {
				t.Errorf("the failed one: %s", a.Text)
			}
			w.Refused(t, route.Write, "config/once", with(prod, fields{"verify_connection": false}), fault.Invalid, "")
		})
	}
}

// TestFailedRootOfBefore: a scheduled rotation that has failed in an earlier version is tried
// again at the time that the earlier version had planned, and nothing else is taken for a retry.
func TestFailedRootOfBefore(t *testing.T) {
	next := time.Date(2000, 1, 2, 0, 0, 0, 0, time.UTC)
	due := next.Add(10 * time.Minute)
	for name, tt := range map[string]struct {
		row  map[string]any
		want time.Time
	}{
		"a failed rotation":             {map[string]any{"failed": 2, "next": next, "due": due}, due},
		"a rotation to come":            {map[string]any{"next": next, "due": due}, time.Time{}},
		"a failed rotation, by request": {map[string]any{"failed": 2, "due": due}, time.Time{}},
	} {
		w := ready(t, enginetest.Config{ByHand: true})
		id := w.rewrite(func(row map[string]any) { row["root"] = tt.row })
		e, err := w.Engine.(engine.Rotator).Rotations().View(t.Context(), "root", id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !e.Rec.Retry.Equal(tt.want) {
			t.Errorf("%s is tried again at %v, want %v", name, e.Rec.Retry, tt.want)
		}
	}
}
