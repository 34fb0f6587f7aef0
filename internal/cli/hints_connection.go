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

// schemeHint returns the hint for an address without a scheme.
func schemeHint(address string) string {
	if strings.Contains(address, "://") {
		return ""
	}
	return fmt.Sprintf("an address begins with https:// or http://, as in VAULT_ADDR=https://%s.", address)
}

// server returns the address that requests go to, as it was typed.
func (o *options) server(getenv func(string) string) string {
	for _, address := range []string{o.agent(getenv), o.address, getenv("VAULT_ADDR")} {
		if address != "" {
			return address
		}
	}
	return api.DefaultAddress
}

// agent returns the address of the agent that requests go through, or "". An agent may have its
// own token.
func (o *options) agent(getenv func(string) string) string {
	switch {
	case o.agentAddress != "":
		return o.agentAddress
	case o.address != "":
		return ""
	}
	return getenv("VAULT_AGENT_ADDR")
}

// connectionHint returns the hint for a request that got no answer. address is the server's
// address as it was typed.
func connectionHint(e *url.Error, address string) string {
	at := "the server"
	if u, err := url.Parse(e.URL); err == nil {
		at = u.Scheme + "://" + u.Host
	}
	const set = "set VAULT_ADDR (or -address) to its address"
	var operation *net.OpError
	var dns *net.DNSError
	var unknownAuthority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch text := e.Err.Error(); { // without the path, which may contain any of these texts
	case strings.Contains(text, "unsupported protocol scheme"):
		return schemeHint(address)
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return fmt.Sprintf("the server speaks plain http; %s with http://, as in VAULT_ADDR=%s.", set,
			strings.Replace(at, "https://", "http://", 1))
	case errors.Is(e, syscall.ECONNREFUSED):
		return fmt.Sprintf("no server is reachable at %s; start one, or %s.", at, set)
	case errors.As(e, &dns) && dns.IsNotFound:
		return fmt.Sprintf("there is no host %s; %s.", dns.Name, set)
	case errors.As(e, &unknownAuthority):
		return "name the authority that signed the server's certificate with -ca-cert or VAULT_CACERT."
	case errors.As(e, &hostname):
		return "the server's certificate does not fit its address; use an address that it names, or -tls-server-name."
	case errors.As(e, &invalid) && invalid.Reason == x509.Expired:
		return "the server's certificate has expired or is not valid yet; renew it, or set this machine's clock."
	case strings.Contains(text, "tls: certificate required"), strings.Contains(text, "tls: bad certificate"):
		return "the server wants a certificate from its clients; give one that it accepts with -client-cert and " +
			"-client-key."
	case errors.As(e, &operation) && operation.Op == "dial" && operation.Timeout():
		return fmt.Sprintf("nothing answers at %s; does a firewall stand between? If it is the wrong address, %s.", at,
			set)
	case errors.Is(e, context.DeadlineExceeded), os.IsTimeout(e):
		return timeoutHint(at)
	}
	return ""
}

func timeoutHint(address string) string {
	return fmt.Sprintf("%s did not answer in time; set VAULT_CLIENT_TIMEOUT to wait longer.", withoutPassword(address))
}

// mountHint adds a hint to the error of the request for the mount of a path. The server runs the
// preflight check only with a valid token.
func mountHint(err, cause error) error {
	var answer *api.ResponseError
	if errors.As(cause, &answer) && answer.StatusCode == http.StatusForbidden &&
		strings.Contains(strings.Join(answer.Errors, "\n"), "preflight capability check") {
		return hinted(err, "nothing is mounted there, or no policy of the token allows anything below it.")
	}
	return err
}
