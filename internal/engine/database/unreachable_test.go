package database

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
)

func TestUnreachable(t *testing.T) {
	f := Fields{Address: "ADDRESS", Authority: "AUTHORITY", Name: "NAME", Pair: "PAIR", TLS: "TLS"}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{syscall.ECONNREFUSED, "nothing listens there; check ADDRESS"},
		{&net.DNSError{IsNotFound: true}, "cannot be resolved; check ADDRESS"},
		{&net.DNSError{IsTimeout: true}, "name server"},
		{syscall.EHOSTUNREACH, "no way leads there"},
		{io.EOF, "closed the connection at once"},
		{syscall.ECONNRESET, "closed the connection at once"},
		{x509.UnknownAuthorityError{}, "give AUTHORITY"},
		{x509.HostnameError{Certificate: &x509.Certificate{}}, "check NAME"},
		{x509.CertificateInvalidError{Reason: x509.Expired}, "has ended"},
		{x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign}, "is not valid"},
		{fault.New("fake", fault.TooLarge, "the answer is too long"), "the answer is too long"},
		{tls.RecordHeaderError{Msg: "no TLS"}, "does not speak TLS"},
		{errors.New("remote error: tls: certificate required"), "give PAIR"},
		{errors.New("remote error: tls: handshake failure"), "TLS handshake"},
		{errors.New("tls: protocol version not supported"), "older than 1.2"},
	} {
		if got, ok := f.Unreachable(fmt.Errorf("dialing: %w", tt.err)); !ok || !strings.Contains(got, tt.want) {
			t.Errorf("%v: %q, %v; want %q in it", tt.err, got, ok, tt.want)
		}
	}
	if got, ok := f.Unreachable(errors.New("anything")); ok {
		t.Errorf("anything: %q", got)
	}
}
