package recipe

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestConnectionErrors: each cause has a sentence of its own, with what there is to do.
func TestConnectionErrors(t *testing.T) {
	outer := func(err error) error {
		return &url.Error{Op: "Post", URL: "https://api.example.com/v1/keys", Err: fmt.Errorf("dialing: %w", err)}
	}
	refused := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	verify := func(err error) error { return &tls.CertificateVerificationError{Err: err} }
	seen := map[string]bool{}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"no such name": {&net.DNSError{Err: "no such host", Name: "api.example.com", IsNotFound: true},
			"does not exist in the DNS"},
		"no DNS": {&net.DNSError{Err: "server misbehaving", Name: "api.example.com", IsTemporary: true},
			"the DNS does not answer"},
		"unknown authority": {verify(x509.UnknownAuthorityError{}), "the key's field ca"},
		"other name": {verify(x509.HostnameError{Certificate: &x509.Certificate{}, Host: "api.example.com"}),
			"is for other names"},
		"expired":  {verify(x509.CertificateInvalidError{Reason: x509.Expired}), "has expired"},
		"no TLS":   {tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, "speak TLS"},
		"alert":    {errors.New("remote error: tls: handshake failure"), "speak TLS"},
		"refused":  {refused, "nothing listens there"},
		"no route": {&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EHOSTUNREACH)}, "no route"},
	} {
		got := connectionError(outer(tt.err), "api.example.com")
		if !strings.Contains(got, tt.want) || !strings.Contains(got, "api.example.com") ||
			!strings.Contains(got, "; ") {
			t.Errorf("%s: %q, want it to say %q, the host and what to do", name, got, tt.want)
		}
		if seen[got] && name != "alert" && name != "no TLS" {
			t.Errorf("%s: %q is said of another cause, too", name, got)
		}
		seen[got] = true
	}
	if got := connectionError(outer(errors.New("unexpected EOF")), "api.example.com"); got != "" {
		t.Errorf("an unknown cause: %q", got)
	}
}
