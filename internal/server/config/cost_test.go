package config

import (
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzConfigCost: reading a configuration, with all its errors and warnings, takes a limited
// number of steps for each byte.
func FuzzConfigCost(f *testing.F) {
	costtest.Fuzz(f, costtest.Parser{Limit: maxFile, Steps: 3000, Parse: func(text string) error {
		p := newParser(drivers())
		p.file("x.hcl", []byte(text))
		if len(text) > maxFile && len(p.report.problems) == 0 {
			return nil
		}
		if _, err := p.finish(); err != nil {
			return err
		}
		return nil
	}}, costtest.Shape{Unit: "x§ = 1\n"}, costtest.Shape{Unit: "listener \"tcp\" { address = \"127.0.0.1:§\" }\n"},
		costtest.Shape{Unit: "/*"}, costtest.Shape{Head: `{"listener":[`, Unit: `{"tcp":{}},`, Tail: "{}]}"},
		costtest.Shape{Unit: "log_level = \"x\"\n"}, costtest.Shape{Head: "a = \"", Unit: "${", Tail: "\""},
		costtest.Shape{Unit: "{"})
}
