package databasetest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// ByURL is the configuration of an administrator at a connection_url.
func ByURL(url string) database.Config {
	return database.Config{URL: secret.Text(url), Username: "admin", Password: secret.Text("Canary"),
		Extra: map[string]string{}}
}

// Leads wants a configuration to lead to the same place as another one, and to be as well guarded,
// or not.
func Leads(t *testing.T, p database.Provider, from, to database.Config, same bool) {
	t.Helper()
	was, _ := p.Destination(from)
	is, ok := p.Destination(to)
	if got := ok && is.Place == was.Place && is.Guard >= was.Guard; got != same {
		t.Errorf("%q %v leads to the same place, as well guarded: %v (%+v from %+v), want %v", to.URL.RevealString(),
			to.Extra, got, is, was, same)
	}
}

// Told is what an error of a driver must say, and prove.
type Told struct {
	Kind               fault.Kind
	Unchanged, Refused bool
	Want               string // in the message
	Code               string // of the server
}

// Check compares an error with it. No message has the word Canary.
func (w Told) Check(t *testing.T, name string, err error) {
	t.Helper()
	message := fault.Message(err)
	if !fault.Is(err, w.Kind) || !strings.Contains(message, w.Want) || strings.Contains(message, "Canary") {
		t.Errorf("%s: %v, want kind %v and %q", name, err, w.Kind, w.Want)
	}
	if database.Unchanged(err) != w.Unchanged || database.Refused(err) != w.Refused {
		t.Errorf("%s: unchanged %v and refused %v, want %v and %v", name, database.Unchanged(err),
			database.Refused(err), w.Unchanged, w.Refused)
	}
	if got := database.CodeOf(err); got != w.Code {
		t.Errorf("%s: code %q, want %q", name, got, w.Code)
	}
}

// Inspected tests what a driver finds in statements, by their text.
func Inspected(t *testing.T, inspect func(field string, statements []string) (database.Found, error),
	all map[string]database.Found) {
	for text, want := range all {
		got, err := inspect("creation_statements", []string{text})
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(database.Found{})); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", text, err, diff)
		}
	}
}
