package outbound

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzOriginCost: a host is short.
func FuzzOriginCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxOrigin, Parse: func(text string) error {
		_, err := ParseOrigin(text)
		return err
	}}, costtest.Shape{Unit: "a"}, costtest.Shape{Unit: "a."}, costtest.Shape{Unit: ":"}, costtest.Shape{Unit: "["},
		costtest.Shape{Head: "http://", Unit: "1."}, costtest.Shape{Unit: "a-"})
}
