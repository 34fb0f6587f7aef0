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

// schemeHint helps where an address lacks its scheme.
func schemeHint(address string) string {
	if strings.Contains(address, "://") {
		return ""
	}
	return fmt.Sprintf("an address begins with https:// or http://, as in VAULT_ADDR=https://%s.", address)
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
