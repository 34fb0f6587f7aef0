package database_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// TestAttemptsThatCanBeTracked: an attempt without a plain id, or without an end, reaches no
// database.
func TestAttemptsThatCanBeTracked(t *testing.T) {
	now := time.Now()
	for want, attempts := range map[bool][]database.Attempt{
		true: {{ID: "abcDEF123", Deadline: now}},
		false: {{}, {ID: "abcDEF123"}, {Deadline: now}, {ID: "a'b", Deadline: now}, {ID: "a b", Deadline: now},
			{ID: strings.Repeat("a", 200), Deadline: now}},
	} {
		for _, a := range attempts {
			if a.Valid() != want {
				t.Errorf("%+v: valid is %v", a, a.Valid())
			}
		}
	}
	for _, k := range []database.Key{{}, {Public: "p"}, {Subject: "s"}, {Public: "p", Subject: "s"}} {
		values := map[string]string{"name": "n"}
		k.Fill(values)
		_, public := values["public_key"]
		_, subject := values["subject"]
		if public != (k.Public != "") || subject != (k.Subject != "") || values["name"] != "n" ||
			values["public_key"] != k.Public || values["subject"] != k.Subject {
			t.Errorf("%+v fills %v", k, values)
		}
	}
}

// TestMarks: what an error is marked with changes neither its words nor its cause, and the error
// that is marked has no mark itself.
func TestMarks(t *testing.T) {
	cause := errors.New("the server's words")
	for name, e := range map[string]*fault.Error{
		"with a cause":    {Op: "fake", Kind: fault.Upstream, Msg: "refused", Err: cause},
		"without a cause": {Op: "fake", Kind: fault.Upstream, Msg: "refused"},
	} {
		marked := database.MarkUnchanged(database.MarkRefused(e))
		if !database.Unchanged(marked) || !database.Refused(marked) || database.Unchanged(e) || database.Refused(e) {
			t.Errorf("%s: the marks are %v and %v, and the error's %v and %v", name, database.Unchanged(marked),
				database.Refused(marked), database.Unchanged(e), database.Refused(e))
		}
		if fault.Message(marked) != "refused" || !fault.Is(marked, fault.Upstream) ||
			errors.Is(marked, cause) != (e.Err != nil) {
			t.Errorf("%s: it became %v", name, marked)
		}
		if got := fault.Cause(marked); e.Err != nil && (got == nil || got.Error() != cause.Error()) {
			t.Errorf("%s: the cause became %v", name, got)
		}
		if database.Refused(database.MarkUnchanged(e)) || database.Unchanged(database.MarkRefused(e)) {
			t.Errorf("%s: one mark is both", name)
		}
	}
}
