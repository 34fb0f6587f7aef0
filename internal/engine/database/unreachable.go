package database

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/keyturn/keyturn/internal/fault"
)

// Fields names the fields that errors of connecting refer to, as the kind of database calls them.
type Fields struct {
	Address   string // "host and port in connection_url"
	Authority string // "tls_ca"
	Name      string // of the server name in the certificate: "tls_server_name"
	Pair      string // the client's certificate: "tls_certificate and private_key"
	TLS       string // of switching TLS on or off: "sslmode in connection_url"
}

// Unreachable says why there is no connection, with cause and next step; false if the error does
// not say why.
func (f Fields) Unreachable(err error) (string, bool) {
	if text, ok := f.tlsReason(err); ok {
		return text, true
	}
	dns, _ := errors.AsType[*net.DNSError](err)
	switch {
	case fault.Is(err, fault.TooLarge):
		return fault.Message(err), true
	case dns != nil && dns.IsNotFound, strings.Contains(err.Error(), "no such host"):
		return "the host's name cannot be resolved; check " + f.Address, true
	case dns != nil, strings.Contains(err.Error(), "hostname resolving"):
		return "the host's name cannot be resolved now; see whether this machine's name server answers", true
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there; check " + f.Address, true
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no way leads there; check " + f.Address + ", and this machine's network", true
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET),
		errors.Is(err, syscall.EPIPE):
		return "what listens there closed the connection at once; check " + f.Address + ", whether it asks for TLS (" +
			f.TLS + "), and a proxy in between that has no server behind it", true
	}
	return "", false
}

// tlsReason says why TLS failed.
func (f Fields) tlsReason(err error) (string, bool) {
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, hostname := errors.AsType[x509.HostnameError](err)
	invalid, bad := errors.AsType[x509.CertificateInvalidError](err)
	_, plain := errors.AsType[tls.RecordHeaderError](err)
	switch text := err.Error(); {
	case authority:
		return "its certificate is not signed by a known authority; give " + f.Authority, true
	case hostname:
		return "its certificate is for another name; check " + f.Name, true
	case bad && invalid.Reason == x509.Expired:
		return "its certificate has ended, or does not count yet; renew it, or set this machine's clock", true
	case bad:
		return "its certificate is not valid; renew it", true
	case NotTaken(text):
		return "it asks for a client's certificate that it trusts; give " + f.Pair, true
	case plain:
		return "what listens there does not speak TLS; check " + f.Address + " and " + f.TLS, true
	case strings.Contains(text, "protocol version not supported"):
		return "its TLS is older than 1.2; upgrade it", true
	case strings.Contains(text, "remote error: tls: "):
		return "it ended the TLS handshake; see its log, and check " + f.Pair + " and " + f.TLS, true
	}
	return "", false
}
