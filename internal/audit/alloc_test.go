//go:build !race

package audit

import (
	"strings"
	"testing"
)

// TestHotPathAllocates: neither hashing nor a line without a payload allocates. (With the race
// detector, pools drop elements at random.)
func TestHotPathAllocates(t *testing.T) {
	h := NewHasher(testSalt())
	dst := make([]byte, 0, 4096)
	plain := []byte(strings.Repeat("x", 100))
	if n := testing.AllocsPerRun(200, func() { dst = h.AppendString(dst[:0], plain) }); n > 0.5 {
		t.Errorf("hashing allocates %v times", n)
	}
	r := &renderer{h: h}
	e := &Entry{Kind: KindRequest, Time: noon, Auth: appToken(), Decision: &Decision{
		Allowed: true, Granting: []string{"app"},
	}, Request: &Request{ID: "1", Path: "x", Remote: client}}
	if n := testing.AllocsPerRun(200, func() { dst = r.entry(dst[:0], e) }); n > 0.5 {
		t.Errorf("a request line allocates %v times", n)
	}
}
