package policy

import (
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hcltext"
)

// ReadText parses a policy's text of at most limit bytes, HCL 1 or JSON, and returns its top-level
// items. It refuses deep nesting and repeated keys. The error has the kind Invalid, and names the
// field "policy" and, if known, the line.
func ReadText(op, text string, limit int) (*ast.ObjectList, error) {
	list, err := hcltext.Parse(text, hcltext.Options{MaxBytes: limit})
	if err != nil {
		return nil, fault.New(op, fault.Invalid, "field \"policy\": %s", err)
	}
	return list, nil
}
