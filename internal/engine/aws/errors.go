package aws

import (
	"github.com/keyturn/keyturn/internal/fault"
)

func invalid(format string, args ...any) error {
	return fault.New("aws", fault.Invalid, format, args...)
}

// set changes a field to the sent value, if one was sent.
func set[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

func clip(s string) string { return s[:min(len(s), 80)] }

func notConfigured() error {
	return fault.New("aws", fault.Invalid,
		"the mount is not configured; write config/root with access_key, secret_key and region")
}

// upstreamError turns an error of AWS into one of this mount. It changes kinds that are about
// AWS, not about what the request names.
func upstreamError(op string, err error) error {
	kind := fault.KindOf(err)
	switch kind {
	case fault.Invalid, fault.Timeout, fault.Unavailable, fault.Internal:
	default:
		kind = fault.Upstream
	}
	return &fault.Error{Op: op, Kind: kind, Msg: fault.Message(err), Err: err}
}
