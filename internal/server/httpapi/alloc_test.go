//go:build !race

package httpapi

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

// TestFlightsAllocate: noting a request that is being served allocates nothing; only List makes
// texts.
func TestFlightsAllocate(t *testing.T) {
	flights := &Flights{}
	x := &call{http: httptest.NewRequest("GET", "/v1/secret/a", nil)}
	x.request.Remote = netip.MustParseAddrPort("192.0.2.1:1234")
	if n := testing.AllocsPerRun(200, func() { flights.add(x); flights.remove(x) }); n > 0 {
		t.Errorf("noting a request allocates %v times", n)
	}
}
