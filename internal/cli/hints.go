package cli

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/hashicorp/vault/api"
)

// A hint is an error with a next step that only its place knows.
//
// A hint is printed only where it is true: what it says of the server, the answer
// has said, or the server was asked. Where that leaves it open, there is no hint.
// TestHints has every hint, where it is true and where it is not.
type hint struct {
	error
	next string
}

func (e hint) Unwrap() error { return e.error }

func hinted(err error, format string, args ...any) error {
	return hint{err, fmt.Sprintf(format, args...)}
}

// hints are the next steps for an error.
func hints(ctx context.Context, s *session, err error) []string {
	var list []string
	if h, ok := errors.AsType[hint](err); ok {
		list = append(list, h.next)
	}
	var usage usageError
	var answer *api.ResponseError
	var unsent *url.Error
	switch {
	case errors.As(err, &usage):
		list = append(list, fmt.Sprintf("%q shows what the command takes.", s.line+" -h"))
	case errors.As(err, &answer):
		if next := answerHint(ctx, s, answer); next != "" {
			list = append(list, next)
		}
	case errors.As(err, &unsent):
		if next := connectionHint(unsent, s.opt.server(s.env.Getenv)); next != "" {
			list = append(list, next)
		}
	case errors.Is(err, context.DeadlineExceeded): // the API library's own limit
		list = append(list, timeoutHint(s.opt.server(s.env.Getenv)))
	}
	return list
}

// answerHint is for an answer that is an error.
func answerHint(ctx context.Context, s *session, e *api.ResponseError) string {
	loggingIn := strings.HasSuffix(s.line, " login")
	switch text := strings.Join(e.Errors, "\n"); {
	case e.StatusCode == http.StatusBadRequest && strings.Contains(text, "HTTP request to an HTTPS server"):
		return "the server speaks https; set VAULT_ADDR (or -address) to the same address with https://."
	case e.StatusCode == http.StatusServiceUnavailable && s.client != nil:
		return sealHint(ctx, s.client, s.name)
	case s.client == nil || loggingIn:
		return ""
	case isDeadToken(e) && s.env.Getenv("VAULT_TOKEN") != "":
		return fmt.Sprintf("VAULT_TOKEN has that token; set another one, or unset it and log in with %q.", s.name+" login")
	case isDeadToken(e):
		return fmt.Sprintf("that is the stored token; log in with %q.", s.name+" login")
	case (e.StatusCode == http.StatusForbidden || strings.Contains(text, noTokenText)) && s.client.api.Token() == "" && s.opt.agent(s.env.Getenv) == "":
		return fmt.Sprintf("no token was sent; log in with %q or set VAULT_TOKEN.", s.name+" login")
	}
	return ""
}

// noTokenText is how servers refuse a request that has no token.
const noTokenText = "missing client token"

// isDeadToken reports whether a server says that the session's token is not good.
// One that says nothing but that permission is denied may mean a policy.
func isDeadToken(e *api.ResponseError) bool {
	text := strings.Join(e.Errors, "\n")
	return e.StatusCode == http.StatusForbidden && strings.Contains(text, "permission denied") &&
		(strings.Contains(text, "the token is not known") || strings.Contains(text, "invalid token"))
}

// sealHint is what to do about a server that does not serve, by what it says of
// its seal.
func sealHint(ctx context.Context, c *client, program string) string {
	var status *api.SealStatusResponse
	err := c.aside(func() (err error) {
		status, err = c.api.Sys().SealStatusWithContext(ctx)
		return err
	})
	switch {
	case err != nil || !status.Sealed:
		return ""
	case !status.Initialized:
		return fmt.Sprintf("the server is new; set it up with %q.", program+" operator init")
	case status.RecoverySeal || status.Type != "shamir":
		return "the server unseals itself with the key of its seal; its log says why it has not."
	}
	return fmt.Sprintf("unseal the server with %q.", program+" operator unseal")
}

// agent is the address of an agent that requests go through; it may have a token
// of its own.
func (o *options) agent(getenv func(string) string) string {
	switch {
	case o.agentAddress != "":
		return o.agentAddress
	case o.address != "":
		return ""
	}
	return getenv("VAULT_AGENT_ADDR")
}

// server is the address that requests go to, as it was given.
func (o *options) server(getenv func(string) string) string {
	for _, address := range []string{o.agent(getenv), o.address, getenv("VAULT_ADDR")} {
		if address != "" {
			return address
		}
	}
	return api.DefaultAddress
}

// schemeHint helps where an address lacks its scheme.
func schemeHint(address string) string {
	if strings.Contains(address, "://") {
		return ""
	}
	return fmt.Sprintf("an address begins with https:// or http://, as in VAULT_ADDR=https://%s.", address)
}

// connectionHint is for a request that got no answer; address is where it went, as
// it was given.
func connectionHint(e *url.Error, address string) string {
	at := "the server"
	if u, err := url.Parse(e.URL); err == nil {
		at = u.Scheme + "://" + u.Host
	}
	const set = "set VAULT_ADDR (or -address) to its address"
	var operation *net.OpError
	var name *net.DNSError
	var stranger x509.UnknownAuthorityError
	var other x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch text := e.Err.Error(); { // not e's: that has the path, which may be anything
	case strings.Contains(text, "unsupported protocol scheme"):
		return schemeHint(address)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("the server speaks plain http; %s with http://, as in VAULT_ADDR=%s.", set, strings.Replace(at, "https://", "http://", 1))
	case errors.Is(e, syscall.ECONNREFUSED):
		return fmt.Sprintf("no server is reachable at %s; start one, or %s.", at, set)
	case errors.As(e, &name) && name.IsNotFound:
		return fmt.Sprintf("there is no host %s; %s.", name.Name, set)
	case errors.As(e, &stranger):
		return "name the authority that signed the server's certificate with -ca-cert or VAULT_CACERT."
	case errors.As(e, &other):
		return "the server's certificate does not fit its address; use an address that it names, or -tls-server-name."
	case errors.As(e, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired or is not valid yet; renew it, or set this machine's clock."
	case strings.Contains(text, "tls: certificate required"), strings.Contains(text, "tls: bad certificate"):
		return "the server wants a certificate from its clients; give one that it accepts with -client-cert and -client-key."
	case errors.As(e, &operation) && operation.Op == "dial" && operation.Timeout():
		return fmt.Sprintf("nothing answers at %s; does a firewall stand between? If it is the wrong address, %s.", at, set)
	case errors.Is(e, context.DeadlineExceeded), os.IsTimeout(e):
		return timeoutHint(at)
	}
	return ""
}

func timeoutHint(address string) string {
	return fmt.Sprintf("%s did not answer in time; set VAULT_CLIENT_TIMEOUT to wait longer.", withoutPassword(address))
}

// mountHint is for the request that finds the mount of a path: its error says
// whether the token was looked at.
func mountHint(err, cause error) error {
	var answer *api.ResponseError
	if errors.As(cause, &answer) && answer.StatusCode == http.StatusForbidden && strings.Contains(strings.Join(answer.Errors, "\n"), "preflight capability check") {
		return hinted(err, "nothing is mounted there, or no policy of the token allows anything below it.")
	}
	return err
}

// versionHint adds to the error of a plain request which kv command it stands
// for, where the path is one of a versioned engine without its data/ or metadata/.
func versionHint(ctx context.Context, s *session, client *client, path target, command string, err error) error {
	if !notThere(err) {
		return err
	}
	found, asking := client.mountOf(ctx, path)
	if asking != nil || found == nil || !found.versioned {
		return err
	}
	switch kind, _, _ := strings.Cut(strings.TrimPrefix(string(path)+"/", found.path), "/"); kind {
	case "data", "metadata", "config", "delete", "undelete", "destroy", "subkeys":
		return err
	case "":
		if command != "list" { // the other commands take a secret
			return err
		}
	}
	return hinted(err, "at %s is version 2 of the key-value engine: use %q.", found.path, s.name+" kv "+command+" "+string(path))
}

// versionedOnly refuses what version 1 cannot do.
func (p kvPath) versionedOnly(what string) error {
	if p.versioned {
		return nil
	}
	err := "Error: " + what + " needs version 2 of the key-value engine; at " + string(p.mount) + "/ "
	switch p.kind {
	case "kv", "generic":
		return hinted(refusal{exitLocal, err + "version 1 is mounted"}, "the command %q upgrades it.", "kv enable-versioning "+string(p.mount)+"/")
	case "":
		return refusal{exitLocal, err + "the server does not say what is mounted"}
	}
	return refusal{exitLocal, err + "an engine of type " + p.kind + " is mounted"}
}

// rotationHint helps where there is nothing at the path of a key: it tells apart
// an engine that is not there from a key that is not there.
func rotationHint(ctx context.Context, s *session, err error, mount, name string) error {
	at, wrong := folder(mount)
	if !notThere(err) || wrong != nil {
		return err
	}
	found, asking := s.client.mountOf(ctx, at)
	var answer *api.ResponseError
	switch {
	case errors.As(asking, &answer) && answer.StatusCode == http.StatusForbidden && !isDeadToken(answer):
		return hinted(err, "no rotation engine is mounted at %s/, or no policy of the token allows anything below it; -mount names another path.", at)
	case asking != nil || found == nil:
		return err
	case found.kind != "rotation":
		return hinted(err, "the engine at %s is of type %s, not a rotation engine; name another path with -mount.", found.path, found.kind)
	case name == "":
		return hinted(err, "no key is rotated there yet; %q configures one.", s.name+" write "+string(at)+"/keys/NAME recipe=… path=…")
	}
	list := s.name + " rotate status"
	if at != "rotation" {
		list += " -mount=" + string(at)
	}
	return hinted(err, "%q lists the keys.", list)
}

// methodHint is for a login endpoint that does not exist. The server then asks for
// a token, which a user who logs in does not have.
func methodHint(err error, path target) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	text := strings.Join(answer.Errors, " ")
	if strings.Contains(text, noTokenText) || answer.StatusCode == http.StatusNotFound && strings.Contains(text, "no handler for route") {
		return hinted(err, "no login method is enabled at %s; name the right path with -path, which an administrator finds with \"auth list\".", path)
	}
	return err
}
