package recipe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"
)

// connectionError returns the reason why a connection failed and what to do about it, or "" if the
// reason is not known. Each cause has its own sentence, because each has its own remedy.
func connectionError(err error, host string) string {
	var (
		dns      *net.DNSError
		verify   *tls.CertificateVerificationError
		record   tls.RecordHeaderError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		expired  x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "the host name " + host + " does not exist in the DNS; correct the address, or add the name"
	case errors.As(err, &dns):
		return "the host name " + host +
			" could not be resolved, because the DNS does not answer; check this server's resolver"
	case errors.As(err, &unknown):
		return "the certificate of " + host +
			" is signed by an authority that is not trusted; give the authority's certificate as the key's field ca"
	case errors.As(err, &hostname):
		return "the certificate of " + host +
			" is for other names; correct the address, or have the provider correct its certificate"
	case errors.As(err, &expired) && expired.Reason == x509.Expired:
		return "the certificate of " + host +
			" has expired, or is not valid yet; check this server's clock, or have the provider renew the certificate"
	case errors.As(err, &verify), errors.As(err, &record), strings.Contains(err.Error(), "tls: "):
		return "the TLS handshake with " + host + " failed; check whether the address and the port speak TLS"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the connection to " + host + " was refused: nothing listens there; check whether the provider is " +
			"up, and correct the address or the port"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no route to " + host + "; check this server's network"
	}
	return ""
}
