package cli

import (
	"context"
	"fmt"
)

func leaseCommand() *command {
	return &command{
		name: "lease", short: "Look up, renew and revoke leases",
		long: "Works with leases: the terms on which credentials were issued.",
		sub:  []*command{leaseLookup(), leaseRenew(), leaseRevoke()},
	}
}

const anExampleLease = "database/creds/app-readonly/2f6a614c4e1a4ba0a3f1c9d2"

func leaseLookup() *command {
	return &command{
		name: "lookup", short: "Show a lease", args: "LEASE_ID", min: 1, max: 1, fields: true,
		long:     "Shows when a lease was issued and when it ends.",
		examples: []example{{"Look at a lease:", "keyturn lease lookup " + anExampleLease}},
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			sec, err := client.api.Sys().LookupWithContext(ctx, s.args[0])
			if err != nil {
				return remote(err, "looking up lease %s", s.args[0])
			}
			if sec == nil {
				return notFoundAt("%s", s.args[0])
			}
			return s.out.show(sec)
		},
	}
}

func leaseRenew() *command {
	var increment string
	return &command{
		name: "renew", short: "Renew a lease", args: "LEASE_ID", min: 1, max: 1, fields: true,
		long: "Lets credentials live longer, within the limits of their role.",
		examples: []example{
			{"Renew a lease:", "keyturn lease renew " + anExampleLease},
			{"Ask for an hour:", "keyturn lease renew -increment=1h " + anExampleLease},
		},
		flags: func(f *flags) {
			f.TTL(&increment, "increment", "from now on, how much longer to live; the server may give less. Short: -i")
			f.Alias("i", "increment")
		},
		run: runChange(func(s *session) (call, error) {
			body := map[string]any{"lease_id": s.args[0]}
			if increment != "" {
				body["increment"] = increment
			}
			return call{
				op: "update", path: "sys/leases/renew", body: body, doing: "renewing " + s.args[0],
				success: "Success! Renewed lease: " + s.args[0],
			}, nil
		}),
	}
}

// revokeFlags are the flags of lease revoke.
type revokeFlags struct{ prefix, force, sync bool }

func leaseRevoke() *command {
	var r revokeFlags
	return &command{
		name: "revoke", short: "Revoke a lease, or all below a path", args: "LEASE_ID | PREFIX", min: 1, max: 1,
		long: "Ends a lease now: its credentials are taken back. Without -sync the command does\nnot wait for that; " +
			"the server retries until it succeeds.",
		examples: []example{
			{"Revoke a lease:", "keyturn lease revoke " + anExampleLease},
			{"Revoke all credentials of a role and wait:",
				"keyturn lease revoke -prefix -sync database/creds/app-readonly"},
			{"Forget the leases of a database that is gone:", "keyturn lease revoke -force -prefix database/creds"},
		},
		flags: func(f *flags) {
			f.Bool(&r.prefix, "prefix", "the argument is a path: revoke every lease below it")
			f.Bool(&r.force, "force",
				"with -prefix: forget the leases even if their credentials cannot be taken back; short: -f")
			f.Alias("f", "force")
			f.Bool(&r.sync, "sync", "wait until the credentials are taken back")
		},
		run: func(ctx context.Context, s *session) error {
			revoke, err := r.call(s.args[0])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			if r.force && !client.asCurl && !client.asPolicy {
				fmt.Fprint(s.env.Stderr, "WARNING! Credentials of leases that are forgotten may live on outside; "+
					"nothing will\ntake them back.\n\n")
			}
			return s.change(ctx, revoke)
		},
	}
}

// call returns the call that revokes a lease, or every lease below a prefix.
func (r revokeFlags) call(leaseOrPrefix string) (call, error) {
	c := call{op: "update", doing: "revoking " + leaseOrPrefix}
	var prefix target
	if r.prefix {
		var err error
		if prefix, err = folder(leaseOrPrefix); err != nil {
			return c, err
		}
	}
	switch {
	case r.force && !r.prefix:
		return c, usagef("-force needs -prefix: one lease cannot be forgotten")
	case r.force:
		c.path, c.body = "sys/leases/revoke-force/"+prefix, map[string]any{}
		c.success = "Success! Force revoked any leases with prefix: " + string(prefix)
		return c, nil
	case r.prefix:
		c.path, c.body = "sys/leases/revoke-prefix/"+prefix, map[string]any{"sync": r.sync}
		c.success = "Success! Revoked any leases with prefix: " + string(prefix)
	default:
		c.path, c.body = "sys/leases/revoke", map[string]any{"sync": r.sync, "lease_id": leaseOrPrefix}
		c.success = "Success! Revoked lease: " + leaseOrPrefix
	}
	if !r.sync {
		c.success = "All revocation operations queued successfully!"
	}
	return c, nil
}
