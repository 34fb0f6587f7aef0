package httpapi

import (
	"bufio"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzHeadCost: a request's line and headers cost a bounded number of steps for each byte. How
// long they may be, the listener says.
func FuzzHeadCost(f *testing.F) {
	b := &backend{}
	h := New(b.config())
	costtest.Fuzz(f, costtest.Parser{Limit: maxHeader, Steps: 2000, Parse: func(text string) error {
		if len(text) > maxHeader {
			return errors.New("the listener's limit")
		}
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return err
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
		return nil
	}}, costtest.Shape{Head: "PUT /v1/a?", Unit: "a§=1&", Tail: " HTTP/1.1\r\nHost: h\r\n\r\n"},
		costtest.Shape{Head: "GET /v1/", Unit: "a/", Tail: " HTTP/1.1\r\nHost: h\r\n\r\n"},
		costtest.Shape{Head: "GET /v1/", Unit: "%2525", Tail: " HTTP/1.1\r\nHost: h\r\n\r\n"}, costtest.Shape{
			Head: "PATCH /v1/a HTTP/1.1\r\nHost: h\r\nContent-Type: a/b", Unit: ";a§=b", Tail: "\r\n\r\n",
		},
		costtest.Shape{Head: "GET /v1/a HTTP/1.1\r\nHost: h\r\n", Unit: "X-§: a\r\n", Tail: "\r\n"},
		costtest.Shape{Head: "GET /v1/a HTTP/1.1\r\nHost: h\r\nX-Vault-Wrap-TTL: ", Unit: "9", Tail: "\r\n\r\n"},
		costtest.Shape{Head: "GET /v1/a HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer ", Unit: "a ", Tail: "\r\n\r\n"})
}

// FuzzForwardedCost: so does the list of proxies.
func FuzzForwardedCost(f *testing.F) {
	fw := Forwarded{By: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Hops: 1}
	peer := netip.MustParseAddrPort("10.0.0.1:1")
	costtest.Fuzz(f, costtest.Parser{Limit: maxForwarded, Parse: func(text string) error {
		_, err := fw.client(peer, []string{text})
		return err
	}}, costtest.Shape{Unit: ","}, costtest.Shape{Unit: "1.2.3.4,", Tail: "1.2.3.4"}, costtest.Shape{Unit: "["},
		costtest.Shape{Head: "1,", Unit: ":", Tail: ",1"})
}
