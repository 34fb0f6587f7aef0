package httpapi

import (
	"github.com/keyturn/keyturn/internal/fault"
)

func invalid(format string, args ...any) error {
	return fault.New("httpapi", fault.Invalid, format, args...)
}
