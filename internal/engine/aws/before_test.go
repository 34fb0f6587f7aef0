package aws_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// resume loads a store that an earlier version has written, at the moment when it was, with AWS as
// it was then. The file was written by that version, and is never changed. It runs in a bubble.
func resume(t *testing.T, file string) *world {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	w := open(t, awstest.Options{}, enginetest.Config{})
	w.Stop()
	rows := string(text)
	for {
		line, rest, _ := strings.Cut(rows, "\n")
		switch word, value, _ := strings.Cut(line, " "); word {
		case "at":
			at, err := time.Parse(time.RFC3339Nano, value)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Until(at))
		case "aws":
			user, value, _ := strings.Cut(value, " ")
			var keys []awstest.Kept
			if err := json.Unmarshal([]byte(value), &keys); err != nil {
				t.Fatal(err)
			}
			switch {
			case user == awstest.Admin && keys[0].ID == awstest.ID: // it has its first key
				keys = keys[1:]
			case user == awstest.Admin:
				w.aws.DropKey(awstest.Account, user, awstest.ID)
			case len(keys) > 0:
				w.aws.AddUser(awstest.Account, user)
			}
			w.aws.Restore(awstest.Account, user, keys...)
		default:
			w.clear()
			w.Load(t, []byte(rows))
			w.Reopen(t)
			return w
		}
		rows = rest
	}
}

// clear removes what this version has stored.
func (w *world) clear() {
	for _, prefix := range []string{"mount/" + enginetest.UUID + "/", "due/work-"} {
		for e, err := range w.View.Scan(w.t.Context(), prefix, storage.PrefixEnd(prefix)) {
			if err != nil {
				w.t.Fatal(err)
			}
			if _, err := w.View.Commit(w.t.Context(), storage.Remove(e.Key)); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// TestFlightsOfBefore: a store that an earlier version has written opens and goes on, whatever
// rotation was in flight: what is given out works at each moment, its key is rotated at its time,
// and in the end there is one.
func TestFlightsOfBefore(t *testing.T) {
	files, err := filepath.Glob("testdata/flight-static-*.txt")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := resume(t, file)
				if strings.Contains(file, "gone") {
					time.Sleep(24 * time.Hour)
					if keys := w.keys(); len(keys) != 1 || w.Work(t) != 0 {
						t.Errorf("keys %q, %d due items: what was in flight must have ended", keys, w.Work(t))
					}
					// its name and its user are free
					w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"propagation_checks": 0}))
					return
				}
				first := !strings.Contains(file, "first")
				var id string
				for range 60 {
					if first {
						id, _ = w.given("svc")
					}
					time.Sleep(time.Hour)
					first = true
				}
				next, _ := w.given("svc")
				a := w.Must(t, route.Read, "static-roles/svc", nil)
				if next == "" || a.Data["failures"] != nil || a.Data["last_error"] != nil || w.Work(t) != 1 {
					t.Errorf("%s after %s; the role reads %s", next, id, a.Text)
				}
				w.Must(t, route.Write, "static-roles/svc", fields{"disable_automated_rotation": true})
				time.Sleep(30 * time.Hour)
				id, _ = w.given("svc")
				if keys := w.keys(); len(keys) != 1 || keys[0] != id || w.Work(t) != 0 {
					t.Errorf("in the end keys %q, %d due items", keys, w.Work(t))
				}
				if n := w.aws.Calls("CreateAccessKey"); n < 2 || n > 4 {
					t.Errorf("%d keys were created in sixty hours of a daily rotation", n)
				}
			})
		})
	}
}

// TestRootFlightsOfBefore: the same for the key of config/root, whose rotation an earlier version
// has kept in the row of config/root.
func TestRootFlightsOfBefore(t *testing.T) {
	files, err := filepath.Glob("testdata/flight-root-*.txt")
	if err != nil || len(files) < 6 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := resume(t, file)
				shown := 0
				for s, err := range w.Engine.(engine.Rotator).Rotations().Statuses(t.Context()) {
					if err != nil {
						t.Error(err)
					}
					if s.Path == "mount/config/root" && s.Summary != "" {
						shown++
					}
				}
				if shown != 1 {
					t.Errorf("the status shows config/root %d times before it has changed", shown)
				}
				w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
				before := w.Must(t, route.Read, "config/root", nil)
				if before.Data["rotation_period"] != float64(6*3600) {
					t.Errorf("it reads %s", before.Text)
				}
				for range 20 {
					w.issue("creds/r", nil)
					time.Sleep(time.Hour)
				}
				w.Must(t, route.Write, "config/root", fields{"disable_automated_rotation": true})
				time.Sleep(time.Hour)
				a := w.Must(t, route.Read, "config/root", nil)
				keys := w.aws.Keys(awstest.Account, awstest.Admin)
				if len(keys) != 1 || keys[0].ID != a.Data["access_key"] || a.Data["last_root_error"] != nil ||
					a.Data["access_key"] == before.Data["access_key"] {
					t.Errorf("keys %+v; it reads %s", keys, a.Text)
				}
				w.Refused(t, route.Write, "config/root", rootConfig, fault.Invalid, "rotate-root has replaced")
				w.Must(t, route.Write, "config/rotate-root", nil)
			})
		})
	}
}
