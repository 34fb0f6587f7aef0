package policy

import (
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hcltext"
)

// ReadText parses a policy's text of at most limit bytes, HCL 1 or JSON, and
// returns its top-level items. It refuses what nests too deep and, in both
// forms, a key that is given twice. The error is of kind Invalid, names the
// field "policy" and, where there is one, the line.
func ReadText(op, text string, limit int) (*ast.ObjectList, error) {
	list, err := hcltext.Parse(text, hcltext.Options{MaxBytes: limit})
	if err != nil {
		return nil, fault.New(op, fault.Invalid, "field \"policy\": %s", err)
	}
	return list, nil
}
