package policy

import (
	"bytes"

	"github.com/hashicorp/hcl/hcl/printer"

	"github.com/keyturn/keyturn/internal/fault"
)

// Format returns a policy's text, which is HCL, in the usual layout. It refuses
// what Parse refuses.
func Format(text []byte) ([]byte, error) {
	if _, err := Parse("", string(text)); err != nil {
		return nil, err
	}
	out, err := printer.Format(text)
	if err != nil {
		return nil, fault.New("policy.Format", fault.Invalid,
			"field \"policy\": only HCL can be formatted, and this is JSON; write it as HCL")
	}
	return append(bytes.TrimRight(out, "\n"), '\n'), nil
}
