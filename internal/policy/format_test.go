package policy_test

import (
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
)

func TestFormat(t *testing.T) {
	const want = `# What it is for.
path "a" {
  capabilities = ["read", "list"]
}
`
	for _, text := range []string{"# What it is for.\npath   \"a\" { capabilities=[\"read\",\"list\"]}", want} {
		got, err := policy.Format([]byte(text))
		if err != nil || string(got) != want {
			t.Errorf("Format(%q) = %q, %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		`path "a" {`, `path "a" { capabilities = ["fly"] }`, `{"path": {"a": {"policy": "read"}}}`,
	} {
		if got, err := policy.Format([]byte(text)); !fault.Is(err, fault.Invalid) || fault.Message(err) == "" {
			t.Errorf("Format(%q) = %q, %v, want an error with words", text, got, err)
		}
	}
}
