package database_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// TestAttemptsThatCanBeTracked: an attempt without a plain id, or without an end, reaches no database.
func TestAttemptsThatCanBeTracked(t *testing.T) {
	now := time.Now()
	for want, attempts := range map[bool][]database.Attempt{
		true:  {{ID: "abcDEF123", Deadline: now}},
		false: {{}, {ID: "abcDEF123"}, {Deadline: now}, {ID: "a'b", Deadline: now}, {ID: "a b", Deadline: now}, {ID: strings.Repeat("a", 200), Deadline: now}},
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
		if public != (k.Public != "") || subject != (k.Subject != "") || values["name"] != "n" || values["public_key"] != k.Public || values["subject"] != k.Subject {
			t.Errorf("%+v fills %v", k, values)
		}
	}
}
