package username

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzTemplateCost: a name costs a bounded number of steps, whatever its template calls.
func FuzzTemplateCost(f *testing.F) {
	m := Maker{Installation: "sample", Now: time.Unix(0, 0), Fields: map[string]string{
		"RoleName": strings.Repeat("r", 128), "DisplayName": strings.Repeat("d", 128),
	}}
	costtest.Fuzz(f, costtest.Parser{Limit: longestText, Steps: 10_000, Parse: func(text string) error {
		_, err := m.Make(text)
		return err
	}}, costtest.Shape{Unit: "{{random 100}}"}, costtest.Shape{
		Head: "{{", Unit: "print .RoleName | ", Tail: "print}}",
	}, costtest.Shape{Head: "{{", Unit: "(", Tail: "1}}"}, costtest.Shape{Unit: "{{"},
		costtest.Shape{Unit: "{{if .RoleName}}"}, costtest.Shape{Unit: `{{printf "%99.99f" 1.0}}`}, costtest.Shape{
			Head: `{{"a" | `, Unit: `replace "a" "aa" | `, Tail: "print}}",
		}, costtest.Shape{Unit: "{{sha256 .RoleName | base64}}"})
}
