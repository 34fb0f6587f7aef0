package database_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
)

// past reads the history of a path, with what is kept of one rotation. The answer must not hold
// any of the secrets, or the first half of one.
func (w *world) past(path string, turn int, secrets ...string) (h rotate.History, made []rotate.Exchange) {
	w.t.Helper()
	a := w.Must(w.t, route.Read, path+"/history", fields{"rotation": turn, "steps": true})
	for _, s := range secrets {
		if strings.Contains(a.Text, s[:len(s)/2]) {
			w.t.Errorf("the history of %s shows a part of %q: %s", path, s, a.Text)
		}
	}
	if err := json.Unmarshal([]byte(strings.ReplaceAll(a.Text, `""`, "null")), &h); err != nil {
		w.t.Fatal(err)
	}
	for _, row := range h.Steps {
		made = append(made, row.Requests...)
	}
	return h, made
}

// TestHistory: a failed rotation of a role or of an administrator's password is seen with what the
// database answered, and no password is. A database may quote a part of a statement, which is then
// left out.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		_, first := w.given("svc")
		told := []string{first, oldPassword}
		refuse := func(name, password string) error {
			told = append(told, password)
			f := &fault.Error{Op: "fake", Kind: fault.Upstream, Msg: "the fake refused it",
				Err: errors.New("syntax error at " + password + " near '" + password[:len(password)-2] + "'")}
			return database.MarkCode(f, "SQLSTATE 42601")
		}
		w.setRules(refuse)
		w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": "SET"})
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("the rotation succeeds, want an error")
		}
		h, made := w.past("static-roles/svc", 2, told...)
		if len(h.Turns) != 1 || h.Turns[0].Result != rotate.Failed || h.Turns[0].N != 2 {
			t.Fatalf("rotations %+v, want the second one, which failed", h.Turns)
		}
		if len(made) != 1 {
			t.Fatalf("calls %+v, want the one that failed", made)
		}
		x := made[0]
		if x.Step != "set-password" || x.Connection != "prod" || x.Code != "SQLSTATE 42601" ||
			x.Error != "the fake refused it" || x.Reply != "" || x.At.IsZero() {
			t.Errorf("kept: %+v", x)
		}

		if _, err := w.Do(route.Write, "rotate-root/prod", nil); err == nil {
			t.Error("the rotation of the administrator's password succeeds, want an error")
		}
		w.setRules(nil)
		w.Must(t, route.Write, "rotate-root/prod", nil)
		if _, made := w.past("config/prod", 1); len(made) != 2 || made[0].Step != "login" || made[0].Error != "" ||
			made[1].Code != "SQLSTATE 42601" {
			t.Errorf("of the administrator's first rotation is kept: %+v", made)
		}
		if h, made := w.past("config/prod", 2); h.Turns[0].Result != rotate.Done || len(made) != 3 ||
			made[2].Step != "login" || made[2].Error != "" {
			t.Errorf("of the administrator's second rotation is kept: %+v, %+v", h, made)
		}
		w.nothingShows(told)
	})
}

// nothingShows wants no password in the log, and in no row but those of secrets.
func (w *world) nothingShows(secrets []string) {
	w.t.Helper()
	text := w.log.String()
	for _, prefix := range []string{"static/", "sth/", "stj/", "root/", "rth/", "rtj/"} {
		from := "mount/" + enginetest.UUID + "/" + prefix
		for e, err := range w.View.Scan(w.t.Context(), from, from+"\xff") {
			if err != nil {
				w.t.Fatal(err)
			}
			text += string(e.Value)
		}
	}
	for _, s := range secrets {
		if strings.Contains(text, s) {
			w.t.Errorf("the log or a row shows %q", s)
		}
	}
}

// TestHistoryWords: where no statement of a client's is sent, the server's words are kept, without
// passwords. A login that is refused is one of the calls, and a database that hangs has answered
// nothing.
func TestHistoryWords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", svc)
		w.setRules(func(_, password string) error {
			return &fault.Error{Op: "fake", Kind: fault.Upstream, Msg: "the fake refused it",
				Err: errors.New("may not set " + password)}
		})
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("the rotation succeeds, want an error")
		}
		if _, made := w.past("static-roles/svc", 2); len(made) != 1 || made[0].Reply != "may not set [secret]" ||
			made[0].Code != "" {
			t.Errorf("kept: %+v", made)
		}
		w.setRules(nil)
		w.hang(true)
		_, _ = w.Do(route.Write, "rotate-role/svc", nil)
		_, made := w.past("static-roles/svc", 3)
		if len(made) == 0 || made[0].Error != "the database hangs" || made[0].Took < 1 {
			t.Errorf("of a database that hangs is kept: %+v", made)
		}
		w.hang(false)
		time.Sleep(time.Hour)
		if h, _ := w.past("static-roles/svc", 3); h.Turns[0].Result != rotate.Done {
			t.Errorf("the rotation is %s, want done", h.Turns[0].Result)
		}
	})
}

// TestHistoryOfNothing: the error says what there is to ask for.
func TestHistoryOfNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Refused(t, route.Read, "static-roles/none/history", nil, fault.NotFound, "list static-roles/")
		w.Refused(t, route.Read, "config/none/history", nil, fault.NotFound, "list config/")
		w.Refused(t, route.Read, "config/prod/history", fields{"rotation": 1}, fault.NotFound, "leave the parameter")
		if a := w.Must(t, route.Read, "config/prod/history", nil); a.Text != `{"rotations":[]}` {
			t.Errorf("the history of what never rotated is %s", a.Text)
		}
	})
}
