package outbound

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// An Origin is a scheme, a host and a port: "https://api.example.com:443".
type Origin string

// hostForm is a DNS name with no trailing dot.
var hostForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// maxOrigin is the longest origin in bytes: a host has 253 at most.
const maxOrigin = 300

// ParseOrigin reads "host", "host:port" (both https) or "http://address:port",
// where plain HTTP is for loopback addresses written as numbers only: there is no
// wire to listen on. Errors are of kind Invalid.
func ParseOrigin(s string) (Origin, error) {
	bad := func(why string) (Origin, error) {
		return "", fault.New("outbound.ParseOrigin", fault.Invalid, "host %q is refused: %s", s, why)
	}
	if len(s) > maxOrigin {
		return "", fault.New("outbound.ParseOrigin", fault.Invalid,
			"a host of %d bytes is refused; want one such as api.example.com:8443", len(s))
	}
	if strings.ContainsAny(s, "@?#") { // the error does not repeat it, because it may contain a secret
		return "", fault.New("outbound.ParseOrigin", fault.Invalid,
			"a host is refused: it has a user, parameters or a fragment; give the host alone, such as "+
				"api.example.com:8443")
	}
	scheme, rest := "https", s
	if before, after, ok := strings.Cut(s, "://"); ok {
		scheme, rest = before, after
	}
	if scheme != "https" && scheme != "http" {
		return bad("want a host, host:port, or http:// and a loopback address")
	}
	host, port := rest, ""
	if h, p, err := net.SplitHostPort(rest); err == nil {
		host, port = h, p
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[scheme]
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return bad("the port must be a number from 1 to 65535")
	}
	host = strings.ToLower(host)
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && addr.Zone() != "":
		return bad("an address with a zone is not supported; leave the zone out")
	case err == nil:
		host = addr.String()
	case len(host) > 253 || !hostForm.MatchString(host):
		return bad("it is not a host name; want one such as api.example.com:8443")
	}
	if scheme == "http" && (err != nil || !addr.Unmap().IsLoopback()) {
		return bad("plain http:// is only for loopback addresses such as 127.0.0.1; use https")
	}
	return Origin(scheme + "://" + net.JoinHostPort(host, port)), nil
}

// OriginOf returns the origin of an absolute URL. The error has the kind Invalid if the URL has no
// origin, has a user part, or if [ParseOrigin] would refuse the origin.
func OriginOf(u *url.URL) (Origin, error) {
	if u.Host == "" || u.Opaque != "" {
		return "", fault.New("outbound.OriginOf", fault.Invalid, "the URL is not absolute; want https://host/path")
	}
	if u.User != nil {
		return "", fault.New("outbound.OriginOf", fault.Invalid, "the URL has a user part; use auth")
	}
	return ParseOrigin(u.Scheme + "://" + u.Host)
}

// A ClientConfig says which origins a client may call, and how.
type ClientConfig struct {
	Origins []Origin // anything else is refused
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	Roots   *x509.CertPool // nil: the system's

	// AnyOrigin allows every origin that Dial reaches. It is for AWS's client, whose hosts depend
	// on the region.
	AnyOrigin bool
	// KeepAlive lets calls share connections. A request may then be sent a second time, if the
	// connection broke before the first byte of its reply.
	KeepAlive bool

	MaxReply int64         // 0: ReplyMax
	Within   time.Duration // 0: ReplyWithin

	// Replay answers in place of the network, to play recorded replies; nil: Dial.
	Replay http.RoundTripper
}

// NewClient returns a client for calls with credentials. A redirect is returned like any reply.
// Each call has its own connection, over HTTP/1.1, because the transport then never repeats a
// request on its own, and the caller knows what an error means. Replies are limited in size and
// duration; reading one that is too large fails with an error of kind TooLarge.
func NewClient(c ClientConfig) *http.Client {
	dial := c.Dial
	if dial == nil {
		dial = func(context.Context, string, string) (net.Conn, error) {
			return nil, fault.New("outbound.Dial", fault.Denied, "no network was given; want \"tcp\"")
		}
	}
	next := c.Replay
	if next == nil {
		next = &http.Transport{
			DialContext:            dial,
			TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    15 * time.Second,
			DisableKeepAlives:      !c.KeepAlive,
			MaxIdleConnsPerHost:    8,
			IdleConnTimeout:        30 * time.Second,
			ForceAttemptHTTP2:      c.KeepAlive,
			DisableCompression:     true,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	next = &bounded{next: next, most: cmp.Or(c.MaxReply, ReplyMax), within: cmp.Or(c.Within, ReplyWithin)}
	if !c.AnyOrigin {
		next = &declared{origins: slices.Clone(c.Origins), next: next}
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     next,
	}
}

// declared passes only requests to its origins.
type declared struct {
	origins []Origin
	next    http.RoundTripper
}

// CloseIdleConnections is what [http.Client] looks for.
func (d *declared) CloseIdleConnections() { closeIdle(d.next) }

func (d *declared) RoundTrip(r *http.Request) (*http.Response, error) {
	origin, err := OriginOf(r.URL)
	switch {
	case err != nil:
		err = fault.New("outbound.Client", fault.Denied, "%s", fault.Message(err))
	case !slices.Contains(d.origins, origin):
		// A host may contain a secret, so it is only in the cause, which callers redact.
		err = &fault.Error{
			Op: "outbound.Client", Kind: fault.Denied,
			Msg: "the address is not of a declared host; add its host to those that may be called, with http:// in " +
				"front if it has no TLS",
			Err: errors.New(string(origin)),
		}
	}
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return d.next.RoundTrip(r)
}
