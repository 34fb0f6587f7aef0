//go:build !race

package route_test

import (
	"testing"

	"github.com/keyturn/keyturn/internal/route"
)

// TestFindAllocates: finding a route allocates the parts of the path that the request keeps, and
// nothing else.
func TestFindAllocates(t *testing.T) {
	tab := table(t)
	r := &route.Request{Op: route.Write, Rest: "data/team/app"}
	if n := testing.AllocsPerRun(200, func() {
		if _, err := tab.Find(r); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("finding a route allocates %v times, want once", n)
	}
}
