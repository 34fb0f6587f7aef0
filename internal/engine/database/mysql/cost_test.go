package mysql

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

// FuzzURLCost checks that parsing and displaying a connection_url takes a bounded number of steps
// for each byte.
func FuzzURLCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: database.MaxURL, Steps: 1000, Parse: func(text string) error {
		display(secret.Text(text))
		c := database.Config{URL: secret.Text(text), Username: "admin", Password: secret.Text("secret")}
		destination(c)
		_, err := parseDSN(c)
		return err
	}}, costtest.Shape{Head: "u:p@tcp(h:1)/?", Unit: "a=1&"}, costtest.Shape{Unit: "{{password}}", Tail: "@tcp(h:1)/"},
		costtest.Shape{Unit: "@"}, costtest.Shape{Unit: "/"},
		costtest.Shape{Head: "tcp(", Unit: ":", Tail: ")/"}, costtest.Shape{Head: "u@tcp(h:1)/?", Unit: "tls=%25&"},
		costtest.Shape{Head: "u@tcp(h:1)/?connectionAttributes=", Unit: "a:b,"})
}
