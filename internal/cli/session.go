package cli

import (
	"errors"
	"flag"
	"io"
)

// newFlags declares the flags of c and those of its session.
func newFlags(c *command, s *session) *flags {
	f := &flags{set: flag.NewFlagSet(c.name, flag.ContinueOnError)}
	f.set.SetOutput(io.Discard)
	if c.flags != nil {
		f.group = "Command options"
		c.flags(f)
	}
	f.group = "Output options"
	f.String(&s.out.format, "format", "format",
		"how to print: table, json, yaml, or raw where a command has it (also VAULT_FORMAT)")
	if c.colors {
		f.Bool(&s.out.noColor, "no-color", "print without colours (also NO_COLOR or VAULT_CLI_NO_COLOR)")
	}
	if c.fields {
		f.String(&s.out.field, "field", "name", "print this field alone, without a line's end, for use in pipes")
	}
	if !c.local {
		f.group = "HTTP options"
		s.opt.declare(f)
	}
	return f
}

// declare adds the HTTP flags.
func (o *options) declare(f *flags) {
	f.String(&o.address, "address", "url", "the server's address (also VAULT_ADDR; https://127.0.0.1:8200 by default)")
	f.String(&o.agentAddress, "agent-address", "url",
		"an agent's address, used in place of the server's (also VAULT_AGENT_ADDR)")
	f.String(&o.caFile, "ca-cert", "file",
		"PEM file with the authority that signed the server's certificate (also VAULT_CACERT)")
	f.String(&o.caFolder, "ca-path", "folder", "folder of such files (also VAULT_CAPATH)")
	f.String(&o.clientCert, "client-cert", "file", "PEM certificate to show to the server (also VAULT_CLIENT_CERT)")
	f.String(&o.clientKeyFile, "client-key", "file", "PEM key of that certificate (also VAULT_CLIENT_KEY)")
	f.String(&o.tlsServerName, "tls-server-name", "name",
		"the name that the server's certificate must have (also VAULT_TLS_SERVER_NAME)")
	f.Bool(&o.skipVerify, "tls-skip-verify", "do not check the server's certificate (also VAULT_SKIP_VERIFY)")
	f.Bool(&o.noRedirects, "disable-redirects", "do not follow a redirect (also VAULT_DISABLE_REDIRECTS)")
	f.String(&o.namespace, "namespace", "path", "the namespace of the request (also VAULT_NAMESPACE); short: -ns")
	f.Alias("ns", "namespace")
	f.Pairs(&o.headers, "header", "a header to add to the requests")
	f.List(&o.mfa, "mfa", "value", "a second factor for the request (also VAULT_MFA)")
	f.Bool(&o.policyOverride, "policy-override", "override soft-mandatory policies")
	f.TTL(&o.wrapTTL, "wrap-ttl",
		"wrap the answer: get a single-use token for it that lives this long (also VAULT_WRAP_TTL)")
	f.Bool(&o.asCurl, "output-curl-string", "print the request as a curl command and do not send it")
	f.Bool(&o.asPolicy, "output-policy", "print a policy that allows the request and do not send it")
	f.Bool(&o.noPrompt, "non-interactive", "never ask; fail where an answer is missing")
}

// prepare parses the flags and checks the number of arguments.
func (s *session) prepare(c *command, args []string) (wantsHelp bool, err error) {
	s.args, err = s.flags.parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return true, nil
	case err != nil:
		return false, s.flags.suggest(usagef("%s", err))
	}
	if s.out.format, err = chooseFormat(s.out.format, s.env.Getenv("VAULT_FORMAT")); err != nil {
		return false, err
	}
	switch n := len(s.args); {
	case n < c.min:
		return false, usagef("not enough arguments: expected %s, got %d", c.args, n)
	case c.max >= 0 && n > c.max:
		return false, usagef("too many arguments: expected %s, got %d", c.expected(), n)
	}
	return false, nil
}
