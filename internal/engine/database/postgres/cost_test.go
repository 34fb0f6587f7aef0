package postgres

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

// FuzzURLCost checks that parsing and displaying a connection_url takes a bounded number of steps
// for each byte.
func FuzzURLCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: database.MaxURL, Steps: 9000, Parse: func(text string) error {
		display(secret.Text(text))
		c := database.Config{URL: secret.Text(text), Username: "admin", Password: secret.Text("secret")}
		destination(c)
		if _, err := parseDSN(c); err != nil {
			return err
		}
		_, err := prepare(c)
		return err
	}},
		costtest.Shape{Head: "postgres://u@h/d?", Unit: "a§=1&"},
		costtest.Shape{Head: "postgres://u:", Unit: "{{password}}", Tail: "@h/d"},
		costtest.Shape{Head: "postgres://u@", Unit: "h,", Tail: "/d"},
		costtest.Shape{Head: "host=h user=u ", Unit: "a§=b "},
		costtest.Shape{Head: "host='", Unit: `\'`, Tail: "'"},
		costtest.Shape{Head: "postgres://u@h/", Unit: "%41"},
		costtest.Shape{Head: "postgres://", Unit: "["},
		costtest.Shape{Head: "postgres://u@h/d?options=", Unit: "-c%20"})
}
