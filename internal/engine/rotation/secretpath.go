package rotation

import (
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

func invalid(format string, args ...any) error {
	return fault.New("rotation.key", fault.Invalid, format, args...)
}

// secretPath returns the path of a secret in the form of a request.
func secretPath(text string) (string, error) {
	switch {
	case text == "":
		return "", invalid(
			`field "path" is required: name a secret in a KV version 2 mount, such as "secret/stripe"`)
	case strings.HasPrefix(text, "/") || strings.HasSuffix(text, "/"):
		return "", invalid("field \"path\": %q begins or ends with a slash; give the path of the secret alone, such "+
			"as \"secret/stripe\"", text)
	}
	path, err := route.ParsePath(strings.ReplaceAll(text, "%", "%25"), false)
	if err != nil {
		return "", invalid("field \"path\": %s", fault.Message(err))
	}
	return string(path), nil
}
