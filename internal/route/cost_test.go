package route_test

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
	"github.com/keyturn/keyturn/internal/route"
)

// FuzzPathCost: a path costs a bounded number of steps for each byte, however often it is escaped,
// and so does redacting it.
func FuzzPathCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: 3*route.MaxPath + 2, Steps: 500, Parse: func(text string) error {
		route.Redact(text)
		_, err := route.ParsePath(text, false)
		return err
	}}, costtest.Shape{Unit: "a/"}, costtest.Shape{Unit: "%61"}, costtest.Shape{Unit: "%25"},
		costtest.Shape{Unit: "%2525"}, costtest.Shape{Unit: "/"}, costtest.Shape{Head: "auth/", Unit: "token/"},
		costtest.Shape{Unit: "a"}, costtest.Shape{Unit: "é"})
}
