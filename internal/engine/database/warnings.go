package database

import "context"

// warningKey is the key of who listens to warnings.
type warningKey struct{}

// OnWarning returns a context for calls of a [Conn] whose listener hears what the server warns of while they run: a GRANT that
// granted nothing, for instance, is no error. It is called before the call returns, not at the same time as itself, and for
// calls that succeed alone. The words are the server's, and redacted of every secret that the call knew.
func OnWarning(ctx context.Context, listener func(text string)) context.Context {
	return context.WithValue(ctx, warningKey{}, listener)
}

// Warn tells the listener of a context, if there is one. It is for implementations.
func Warn(ctx context.Context, text string) {
	if listener, ok := ctx.Value(warningKey{}).(func(text string)); ok {
		listener(text)
	}
}
