package cli

import (
	"context"
	"strings"

	"github.com/hashicorp/vault/api"
)

func tokenCommand() *command {
	return &command{
		name: "token", short: "Create, look up, renew and revoke tokens",
		long: "Works with tokens. Where a token is an argument and none is given, the session's\nown is meant.",
		sub:  []*command{tokenCreate(), tokenLookup(), tokenRenew(), tokenRevoke(), tokenCapabilities()},
	}
}

// tokenFlags are the properties of a token to create.
type tokenFlags struct {
	id, displayName, role, kind, entityAlias string
	ttl, maxTTL, period                      string
	policies                                 []string
	meta                                     map[string]string
	uses                                     int
	orphan, renewable, noDefault             bool
}

func (t *tokenFlags) declare(f *flags) {
	t.renewable = true
	f.List(&t.policies, "policy", "name", "a policy of the token; without any, it has those of its parent")
	f.TTL(&t.ttl, "ttl", "how long the token lives until it must be renewed")
	f.TTL(&t.maxTTL, "explicit-max-ttl", "how long the token lives however often it is renewed")
	f.TTL(&t.period, "period", "make it periodic: each renewal gives it this long, without an end")
	f.Int(&t.uses, "use-limit", "how many requests the token may make; 0: any number")
	f.Bool(&t.renewable, "renewable", "whether it may be renewed (it may by default)")
	f.Bool(&t.orphan, "orphan", "create it without a parent, so that it outlives this session's token")
	f.Bool(&t.noDefault, "no-default-policy", "leave the policy default out")
	f.String(&t.kind, "type", "name", "service, or batch: not stored, not renewable, cheap")
	f.String(&t.role, "role", "name", "the token role to create it by")
	f.String(&t.displayName, "display-name", "name", "a name for it in audit and lookups")
	f.Pairs(&t.meta, "metadata", "a field to keep with it")
	f.String(&t.entityAlias, "entity-alias", "name", "the entity alias to create it under (with -role)")
	f.String(&t.id, "id", "token", "its value; by default a random one")
}

const createToken target = "auth/token/create"

// request returns the path and the body that create the token.
func (t *tokenFlags) request(f *flags) (path target, body map[string]any, err error) {
	body = map[string]any{"renewable": t.renewable}
	for key, text := range map[string]string{
		"id": t.id, "display_name": t.displayName, "type": t.kind, "entity_alias": t.entityAlias,
		"ttl": t.ttl, "explicit_max_ttl": t.maxTTL, "period": t.period,
	} {
		if text != "" {
			body[key] = text
		}
	}
	if len(t.policies) > 0 {
		body["policies"] = t.policies
	}
	if len(t.meta) > 0 {
		body["meta"] = t.meta
	}
	if f.given("use-limit") {
		body["num_uses"] = t.uses
	}
	if t.noDefault {
		body["no_default_policy"] = true
	}
	switch {
	case t.role != "":
		path, err = createToken.child(t.role)
		return path, body, err
	case t.orphan:
		return "auth/token/create-orphan", body, nil
	}
	return createToken, body, nil
}

func tokenCreate() *command {
	var t tokenFlags
	return &command{
		name: "create", short: "Create a token", fields: true,
		long: "Creates a token under the session's own: it dies with that one, unless it is an\norphan.",
		examples: []example{
			{"Create a token for a service:",
				"keyturn token create -policy=deploy-service -ttl=24h -display-name=deploy"},
			{"Put one into a variable:",
				"VAULT_TOKEN=$(keyturn token create -field=token -policy=deploy-service -type=batch -ttl=15m)"},
		},
		flags: t.declare,
		run: runChange(func(s *session) (call, error) {
			path, body, err := t.request(s.flags)
			return call{op: "update", path: path, body: body, doing: "creating a token",
				success: "Success! Token created"}, err
		}),
	}
}

func tokenLookup() *command {
	var accessor bool
	return &command{
		name: "lookup", short: "Show what a token is", args: "[TOKEN | ACCESSOR]", max: 1, fields: true,
		long: "Shows a token's policies, times and limits.",
		examples: []example{
			{"Look at one's own token:", "keyturn token lookup"},
			{"Look at another by its accessor:",
				"keyturn token lookup -accessor 9793c9b3-e04a-46f3-e7b8-748d7da248da"},
		},
		flags: func(f *flags) { accessorFlag(f, &accessor) },
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			var sec *api.Secret
			switch {
			case accessor && len(s.args) == 0:
				return usagef("-accessor: there is no accessor among the arguments")
			case accessor:
				sec, err = client.api.Auth().Token().LookupAccessorWithContext(ctx, s.args[0])
			case len(s.args) == 0:
				sec, err = client.api.Auth().Token().LookupSelfWithContext(ctx)
			default:
				sec, err = client.api.Auth().Token().LookupWithContext(ctx, s.args[0])
			}
			if err != nil {
				return remote(err, "looking up token")
			}
			return s.out.show(sec)
		},
	}
}

func accessorFlag(f *flags, p *bool) {
	f.Bool(p, "accessor", "the argument is an accessor; the token itself is not shown")
}

func tokenRenew() *command {
	var accessor bool
	var increment string
	return &command{
		name: "renew", short: "Renew a token", args: "[TOKEN | ACCESSOR]", max: 1, fields: true,
		long: "Lets a token live longer, within its limits.",
		examples: []example{
			{"Renew one's own token:", "keyturn token renew"},
			{"Ask for half an hour more:", "keyturn token renew -increment=30m 96ddf4bc-d217-f3ba-f9bd-017055595017"},
		},
		flags: func(f *flags) {
			accessorFlag(f, &accessor)
			f.TTL(&increment, "increment", "from now on, how much longer to live; the server may give less. Short: -i")
			f.Alias("i", "increment")
		},
		run: runChange(func(s *session) (call, error) {
			body := map[string]any{}
			if increment != "" {
				body["increment"] = increment
			}
			var path target
			switch {
			case accessor && len(s.args) == 0:
				return call{}, usagef("-accessor: there is no accessor among the arguments")
			case accessor:
				path, body["accessor"] = "auth/token/renew-accessor", s.args[0]
			case len(s.args) == 0:
				path = "auth/token/renew-self"
			default:
				path, body["token"] = "auth/token/renew", s.args[0]
			}
			return call{op: "update", path: path, body: body, doing: "renewing token",
				success: "Success! Token renewed"}, nil
		}),
	}
}

func tokenRevoke() *command {
	var accessor, self bool
	var mode string
	return &command{
		name: "revoke", short: "Revoke a token", args: "[TOKEN | ACCESSOR | PATH]", max: 1,
		long: "Revokes a token, with its children and all their leases.",
		examples: []example{
			{"Revoke a token:", "keyturn token revoke 96ddf4bc-d217-f3ba-f9bd-017055595017"},
			{"Revoke it and let its children live:",
				"keyturn token revoke -mode=orphan 96ddf4bc-d217-f3ba-f9bd-017055595017"},
			{"End this session:", "keyturn token revoke -self"},
		},
		flags: func(f *flags) {
			accessorFlag(f, &accessor)
			f.Bool(&self, "self", "revoke the session's own token")
			f.String(&mode, "mode", "name",
				"orphan: the token's children live on; path: revoke all tokens that were created at the path")
		},
		run: func(ctx context.Context, s *session) error {
			path, body, err := revocation(first(s.args), mode, accessor, self)
			if err != nil {
				return err
			}
			if _, err := s.send(ctx, call{op: "update", path: path, body: body, doing: "revoking token"}); err != nil {
				return err
			}
			return s.out.say("Success! Revoked token (if it existed)")
		},
	}
}

// revocation returns the path and the body of the request to revoke.
func revocation(argument, mode string, accessor, self bool) (path target, body map[string]any, err error) {
	if self && (argument != "" || accessor || mode != "") {
		return "", nil, usagef("-self goes with no argument, -accessor or -mode")
	}
	if !self && argument == "" {
		return "", nil, usagef("there is no token to revoke: give it, or -self")
	}
	if accessor && mode != "" {
		return "", nil, usagef("-accessor goes with no -mode")
	}
	switch {
	case self:
		return "auth/token/revoke-self", map[string]any{}, nil
	case accessor:
		return "auth/token/revoke-accessor", map[string]any{"accessor": argument}, nil
	case mode == "":
		return "auth/token/revoke", map[string]any{"token": argument}, nil
	case mode == "orphan":
		return "auth/token/revoke-orphan", map[string]any{"token": argument}, nil
	case mode == "path":
		prefix, err := folder(argument)
		return "sys/leases/revoke-prefix/" + prefix, map[string]any{}, err
	}
	return "", nil, usagef("-mode: unknown mode %q; use orphan or path", mode)
}

func tokenCapabilities() *command {
	var accessor bool
	return &command{
		name: "capabilities", short: "Show what a token may do at a path",
		args: "[TOKEN | ACCESSOR] PATH", min: 1, max: 2,
		long: "Prints the capabilities that a token has at a path.",
		examples: []example{
			{"May I read this?", "keyturn token capabilities database/creds/app-readonly"},
			{"May that token?",
				"keyturn token capabilities 96ddf4bc-d217-f3ba-f9bd-017055595017 database/creds/app-readonly"},
		},
		flags: func(f *flags) { accessorFlag(f, &accessor) },
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			path := s.args[len(s.args)-1]
			var list []string
			switch {
			case accessor && len(s.args) == 1:
				return usagef("-accessor: there is no accessor among the arguments")
			case accessor:
				list, err = client.api.Sys().CapabilitiesAccessorWithContext(ctx, s.args[0], path)
			case len(s.args) == 1:
				list, err = client.api.Sys().CapabilitiesSelfWithContext(ctx, path)
			default:
				list, err = client.api.Sys().CapabilitiesWithContext(ctx, s.args[0], path)
			}
			if err != nil {
				return remote(err, "listing capabilities")
			}
			if done, err := s.out.encode(list); done {
				return err
			}
			return s.out.write(strings.Join(list, ", ") + "\n")
		},
	}
}
