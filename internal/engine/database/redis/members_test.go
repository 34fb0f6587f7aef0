package redis

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestNodes: all nodes are called, whatever they are, and those alone.
func TestNodes(t *testing.T) {
	const text = "a :7001@17001 myself,master - 0 0 1 connected 0-5460 [5461->-b]\n" +
		"b 10.0.0.2:7002@17002,two.example.com,shard-id=x master,fail - 0 0 2 disconnected 5461-16383\n" +
		"c 10.0.0.3:7003@17003,,tls-port=0 slave,fail a 0 0 1 disconnected\n" +
		"d fd00::4:7004@17004 master,fail? - 0 0 0 connected\n" + "e :0@0 slave,noaddr b 0 0 2 disconnected\n" +
		"f 10.0.0.6:7006@17006 handshake - 0 0 0 disconnected\n"
	want := []server{
		{address: "10.0.0.1:7001", name: "10.0.0.1"}, {address: "10.0.0.2:7002", name: "two.example.com"},
		{address: "10.0.0.3:7003", name: "10.0.0.3", down: true}, {address: "[fd00::4]:7004", name: "fd00::4"},
	}
	got, err := parseNodes(text, server{address: "10.0.0.1:7001"})
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(server{})); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for in, want := range map[string]error{
		"":             errNoSlots,
		"a b master\n": errProtocol,
		"a 10.0.0.1:7001@17001 myself,master - 0 0 0 connected\n":  errNoSlots, // it was taken out
		"a 10.0.0.1@17001 myself,master - 0 0 0 connected 0-9\n":   errProtocol,
		"a x/y:7001@17001 myself,master - 0 0 0 connected 0-9\n":   errProtocol,
		"a 10.0.0.1:x@17001 myself,master - 0 0 0 connected 0-9\n": errProtocol,
	} {
		if got, err := parseNodes(in, server{address: "10.0.0.1:7001"}); !errors.Is(err, want) {
			t.Errorf("%q: %v, %v; want %v", in, got, err, want)
		}
	}
}
