package token

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

// inPathRoutes are deprecated routes with a token in the path. Its field is a secret.Value, so
// that only routing, policies and the handler see it.
func inPathRoutes(t *method) []route.Route {
	all := []route.Route{
		route.On(route.Read, "lookup/{token}", inPath("lookup", t.lookup)).
			WithHelp("Deprecated: look up the token in the path. Send it in the body of a POST to lookup instead."),
		route.On(route.Write, "lookup/{token}", inPath("lookup", t.lookup)).
			WithHelp("Deprecated: look up the token in the path. Send it in the body of a POST to lookup instead."),
		route.On(route.Write, "renew/{token}", renewInPath(t)).
			WithHelp("Deprecated: renew the token in the path. Send it in the body of renew instead."),
		route.On(route.Write, "revoke/{token}", inPath("revoke", t.revoke)).WithHelp(
			"Deprecated: revoke the token in the path, with its children and leases. Send it in the body of " +
				"revoke instead."),
		route.On(route.Write, "revoke-orphan/{token}", inPath("revoke-orphan", t.revokeOrphan)).WithSudo().WithHelp(
			"Deprecated: revoke the token in the path and leave its children. Send it in the body of " +
				"revoke-orphan instead."),
	}
	for i, r := range all {
		all[i] = r.WithDeprecated()
	}
	return all
}

type inPathIn struct {
	Token secret.Value `path:"token" doc:"The token."`
}

// inPath returns a handler that takes the token from the path, and calls h with it.
func inPath[Out any](
	name string, h func(context.Context, *route.Request, tokenIn) (Out, error),
) func(context.Context, *route.Request, inPathIn) (Out, error) {
	return func(ctx context.Context, r *route.Request, in inPathIn) (Out, error) {
		warnInPath(r, name)
		return h(ctx, r, tokenIn{Token: in.Token})
	}
}

type renewInPathIn struct {
	Token     secret.Value  `path:"token" doc:"The token."`
	Increment time.Duration `json:"increment" default:"the token's TTL" doc:"How long it should live from now on; the server may give less."`
}

func renewInPath(t *method) func(context.Context, *route.Request, renewInPathIn) (route.None, error) {
	return func(ctx context.Context, r *route.Request, in renewInPathIn) (route.None, error) {
		warnInPath(r, "renew")
		return t.renew(ctx, r, tokenIn{Token: in.Token, Increment: in.Increment})
	}
}

func warnInPath(r *route.Request, name string) {
	r.Warn(
		"a token in the path is deprecated, because proxies, clients and shells record paths; send it as \"token\" "+
			"in the body of a POST to %s%s",
		r.Mount.Path,
		name)
}
