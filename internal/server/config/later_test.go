package config

import "testing"

func TestLater(t *testing.T) {
	base := Server{Storage: Stanza{Name: "pebble", Params: map[string]string{"path": "a"}}, Listeners: []Listener{{Address: "a", CertFile: "x"}}}
	same := base
	same.Listeners = []Listener{{Address: "a", CertFile: "y", At: Position{"f", 9}}}
	same.LogLevel = 4
	if got := base.Later(&same); len(got) != 0 {
		t.Errorf("what is reloaded is called late: %q", got)
	}
	other := Server{Storage: Stanza{Name: "pebble", Params: map[string]string{"path": "b"}}, Seal: Stanza{Name: "static"}, LogFormat: "json", ClusterName: "c", APIAddr: "d", DefaultLeaseTTL: 1, MaxLeaseTTL: 2}
	if got := base.Later(&other); len(got) != 8 {
		t.Errorf("got %q", got)
	}
}
