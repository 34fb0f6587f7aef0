package database

import "context"

// warningKey is the context key of the listener.
type warningKey struct{}

// OnWarning returns a context for calls of a [Conn]. While such a call runs, listener gets the
// warnings of the server: a GRANT that granted nothing, for instance, is no error. Listener is
// called before the call returns, never concurrently, and only for calls that succeed. The text
// is the server's, redacted of every secret that the call knew.
func OnWarning(ctx context.Context, listener func(text string)) context.Context {
	return context.WithValue(ctx, warningKey{}, listener)
}

// Warn calls the listener of a context, if there is one. It is for implementations.
func Warn(ctx context.Context, text string) {
	if listener, ok := ctx.Value(warningKey{}).(func(text string)); ok {
		listener(text)
	}
}
