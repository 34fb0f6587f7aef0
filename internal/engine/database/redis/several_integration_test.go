//go:build integration && unix

package redis

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/redistest"
	"github.com/keyturn/keyturn/test/tlstest"
)

func clusterConfig(all redistest.Servers, persistence string) database.Config {
	c := configOf(all[0], redistest.Admin, redistest.Password, persistence)
	c.Extra["cluster"] = "true"
	c.Extra["host"] = all[0].Host + "," + all[1].Addr()
	return c
}

func sentinelConfig(s *redistest.Server) database.Config {
	c := configOf(s, redistest.Admin, redistest.Password, "")
	c.Extra["sentinel_master_name"], c.Extra["sentinel_username"] = redistest.Primary, redistest.Admin
	c.Hidden = map[string]secret.Value{"sentinel_password": secret.Text(redistest.Password)}
	return c
}

// targetOf is all servers as one database. What is stopped is the one at.
func targetOf(t *testing.T, all redistest.Servers, c database.Config, at int, back func()) databasetest.Target {
	out := target(all[0], c)
	do := func(rule string) map[string]func(*testing.T, string) {
		return map[string]func(*testing.T, string){"off": func(t *testing.T, name string) {
			if err := all.Do(t.Context(), "ACL", "SETUSER", name, rule); err != nil {
				t.Fatal(err)
			}
		}}
	}
	out.Login, out.Exists, out.Crowd = all.Login(t), all.Exists, 100
	out.Shut, out.Bring = do("off"), do("on")
	out.Stop = func() error { all[at].Stop(); return nil }
	out.Start = func() error {
		err := all[at].Start()
		back()
		return err
	}
	return out
}

// TestClusterConformance runs the suite on a cluster, as the administrator of the documentation.
func TestClusterConformance(t *testing.T) {
	all := redistest.StartCluster(t)
	if err := all.Do(t.Context(), "ACL", "SETUSER", "keyturn", "on", ">lender-password", "+acl", "+client", "+time",
		"+cluster|nodes"); err != nil {
		t.Fatal(err)
	}
	if err := all.Do(t.Context(), "ACL", "SAVE"); err != nil {
		t.Fatal(err)
	}
	c := clusterConfig(all, "")
	c.Username, c.Password = "keyturn", secret.Text("lender-password")
	databasetest.Run(t, targetOf(t, all, c, 2, func() { all.Joined(t) }))
}

// TestSentinelConformance runs it on a primary and its replica, without a fail-over.
func TestSentinelConformance(t *testing.T) {
	sentinel, all := redistest.StartSentinel(t, time.Hour)
	if _, err := sentinel.Do(t.Context(), "ACL", "SETUSER", "keyturn", "on", ">watcher-password",
		"+sentinel"); err != nil {
		t.Fatal(err)
	}
	c := sentinelConfig(sentinel)
	c.Extra["sentinel_username"], c.Hidden["sentinel_password"] = "keyturn", secret.Text("watcher-password")
	databasetest.Run(t, targetOf(t, all, c, 0, func() {}))
}

func connectTo(t *testing.T, c database.Config) database.Conn {
	t.Helper()
	out, err := Provider.Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	return out
}

// drop revokes as the engine does, and returns what the last step that it came to said.
func drop(ctx context.Context, c database.Conn, name string) error {
	if err := c.Disable(ctx, name); err != nil && !database.Refused(err) {
		return err
	}
	_, err := c.Drop(ctx, name, database.DropOptions{})
	return err
}

// TestNodeAwayAtRevocation: a user is not revoked before it is gone at every node, and is gone at
// once where that can be.
func TestNodeAwayAtRevocation(t *testing.T) {
	ctx := t.Context()
	all := redistest.StartCluster(t)
	c := connectTo(t, clusterConfig(all, "ACLFILE"))
	u := databasetest.NewUser()
	if err := c.Create(ctx, u, []string{"~*", "+@read"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := all.Login(t)(ctx, u.Name, u.Password.RevealString()); err != nil {
		t.Fatal(err)
	}
	away, rest := all[1], redistest.Servers{all[0], all[2], all[3]}
	away.Stop()
	if err := drop(ctx, c, u.Name); !database.Refused(err) || database.Unchanged(err) ||
		!strings.Contains(fault.Message(err), "server "+away.Addr()+" (1 of 4 failed)") {
		t.Errorf("revoking with a node away: %v, refused %v, unchanged %v", err, database.Refused(err),
			database.Unchanged(err))
	}
	if there, err := rest.Exists(ctx, u.Name); there || err != nil {
		t.Errorf("at the other nodes: %v, %v", there, err)
	}
	next := databasetest.NewUser()
	if err := c.Create(ctx, next, []string{"~*", "+@read"}, nil); err == nil || !database.Unchanged(err) {
		t.Errorf("creating with a node away: %v, unchanged %v", err, database.Unchanged(err))
	}
	if there, err := rest.Exists(ctx, next.Name); there || err != nil {
		t.Errorf("a user whose creation failed: %v, %v", there, err)
	}
	if err := away.Start(); err != nil {
		t.Fatal(err)
	}
	if there, err := away.Exists(ctx, u.Name); !there || err != nil {
		t.Errorf("the node comes back without the user, so that this proves nothing: %v, %v", there, err)
	}
	all.Joined(t)
	if err := drop(ctx, c, u.Name); err != nil {
		t.Error(err)
	}
	if there, err := all.Exists(ctx, u.Name); there || err != nil {
		t.Errorf("after the node came back: %v, %v", there, err)
	}
}

// TestReplicaDown: a replica that the cluster counts as down keeps nobody from being issued, and
// is told of; a revocation waits for it.
func TestReplicaDown(t *testing.T) {
	all := redistest.StartCluster(t)
	c := connectTo(t, clusterConfig(all, "ACLFILE"))
	replica, primaries := all[3], all[:3]
	replica.Stop()
	await.Eventually(t, "the cluster counts the replica as down", func() bool {
		list, err := all[0].Do(t.Context(), "CLUSTER", "NODES")
		return err == nil && strings.Contains(list, "slave,fail ")
	})
	var warned string
	ctx := database.OnWarning(t.Context(), func(text string) { warned = text })
	u := databasetest.NewUser()
	if err := c.Create(ctx, u, []string{"~*", "+@read"}, nil); err != nil ||
		!strings.Contains(warned, "not made at "+replica.Addr()) {
		t.Errorf("creating without the replica: %v, warned %q", err, warned)
	}
	if there, err := primaries.Exists(ctx, u.Name); !there || err != nil {
		t.Errorf("at the primaries: %v, %v", there, err)
	}
	if err := drop(ctx, c, u.Name); err == nil {
		t.Error("revoked, although a node was not asked")
	}
	if err := replica.Start(); err != nil {
		t.Fatal(err)
	}
	all.Joined(t)
	if err := drop(ctx, c, u.Name); err != nil {
		t.Error(err)
	}
}

// TestFailoverBySentinel: the next call after a fail-over goes to the servers that there are then,
// and a user from before works at the new primary.
func TestFailoverBySentinel(t *testing.T) {
	sentinel, all := redistest.StartSentinel(t, time.Second)
	c := connectTo(t, sentinelConfig(sentinel))
	create := func() database.User {
		t.Helper()
		u := databasetest.NewUser()
		if err := c.Create(t.Context(), u, []string{"~*", "+@read"}, nil); err != nil {
			t.Fatal(err)
		}
		return u
	}
	primary := func() string {
		at, err := sentinel.Do(t.Context(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", redistest.Primary)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(at, "\n", ":")
	}
	u := create()
	all[0].Stop()
	await.Eventually(t, "the fail-over", func() bool { return primary() == all[1].Addr() })
	if err := all[1].Login(t.Context(), u.Name, u.Password.RevealString()); err != nil {
		t.Errorf("a user from before the fail-over: %v", err)
	}
	next := create()
	if err := all[1].Login(t.Context(), next.Name, next.Password.RevealString()); err != nil {
		t.Errorf("a user from after the fail-over: %v", err)
	}
	if err := drop(t.Context(), c, u.Name); err == nil {
		t.Error("revoked, although a server was not asked")
	}
	if there, err := all[1].Exists(t.Context(), u.Name); there || err != nil {
		t.Errorf("at the new primary: %v, %v", there, err)
	}
	if err := all[0].Start(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{u.Name, next.Name} {
		if err := drop(t.Context(), c, name); err != nil {
			t.Error(err)
		}
	}
	await.Eventually(t, "the old primary is a replica", func() bool {
		role, err := all[0].Do(t.Context(), "ROLE")
		return err == nil && strings.HasPrefix(role, "slave")
	})
	u = create()
	if err := all.Login(t)(t.Context(), u.Name, u.Password.RevealString()); err != nil {
		t.Errorf("once both are there: %v", err)
	}
}

// cut closes a connection in place of a message that has the text, to the server at an address, as
// long as on is set.
type cut struct {
	net.Conn
	text []byte
	on   *atomic.Bool
}

func (c *cut) Write(b []byte) (int, error) {
	if c.on.Load() && bytes.Contains(b, c.text) {
		c.Close()
	}
	return c.Conn.Write(b)
}

// TestPasswordBreaksOff: wherever a change of a password breaks off, one of the two passwords
// works at all nodes, a repetition ends it, and until then no login says that it has ended. It
// holds for the administrator's own, too.
func TestPasswordBreaksOff(t *testing.T) {
	ctx := t.Context()
	all := redistest.StartCluster(t)
	for _, text := range []string{"$65\r\n#", "resetpass"} {
		for _, own := range []bool{false, true} {
			name, old := databasetest.NewUser().Name, "old-password"
			if err := all.Do(ctx, "ACL", "SETUSER", name, "on", ">"+old, "~*", "+@all"); err != nil {
				t.Fatal(err)
			}
			config := clusterConfig(all, "")
			if own {
				config.Username, config.Password = name, secret.Text(old)
			}
			var on atomic.Bool
			broken := config
			broken.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				if err != nil || address != all[2].Addr() {
					return c, err
				}
				return &cut{c, []byte(text), &on}, nil
			}
			c := connectTo(t, broken)
			on.Store(true)
			next := databasetest.NewUser().Password
			err := c.SetPassword(ctx, name, next, nil)
			if err == nil || database.Unchanged(err) || !strings.Contains(fault.Message(err), all[2].Addr()) {
				t.Fatalf("%q, own %v: %v, unchanged %v", text, own, err, database.Unchanged(err))
			}
			works := map[bool]string{true: next.RevealString(), false: old}[text == "resetpass"]
			for _, s := range all {
				if err := s.Login(ctx, name, works); err != nil && !strings.HasPrefix(err.Error(), "MOVED ") {
					t.Errorf("%q, own %v: at %s: %v", text, own, s.Addr(), err)
				}
			}
			if ok, err := connectTo(t, clusterConfig(all, "")).Login(ctx, name, next); ok {
				t.Errorf("%q, own %v: a login says that the change has ended: %v", text, own, err)
			}
			on.Store(false)
			config.Password = secret.Text(map[bool]string{true: works, false: redistest.Password}[own])
			if err := connectTo(t, config).SetPassword(ctx, name, next, nil); err != nil {
				t.Fatalf("%q, own %v: again: %v", text, own, err)
			}
			after := connectTo(t, clusterConfig(all, ""))
			if ok, err := after.Login(ctx, name, next); !ok {
				t.Errorf("%q, own %v: the new password: %v, %v", text, own, ok, err)
			}
			if ok, err := after.Login(ctx, name, secret.Text(old)); ok || err != nil {
				t.Errorf("%q, own %v: the old password: %v, %v", text, own, ok, err)
			}
		}
	}
}

// TestMisconfigured: what the servers are not is said in words.
func TestMisconfigured(t *testing.T) {
	sentinel, all := redistest.StartSentinel(t, time.Second)
	for want, edit := range map[string]func(*database.Config){
		"leave cluster out": func(c *database.Config) {
			*c = configOf(all[0], redistest.Admin, redistest.Password, "")
			c.Extra["cluster"] = "true"
		},
		"this is a Sentinel": func(c *database.Config) {
			*c = configOf(sentinel, redistest.Admin, redistest.Password, "")
		},
		"it is not a Sentinel": func(c *database.Config) { c.Extra["port"] = strconv.Itoa(all[0].Port) },
		"no primary by":        func(c *database.Config) { c.Extra["sentinel_master_name"] = "other" },
		"by sentinel_username and sentine": func(c *database.Config) {
			c.Hidden = map[string]secret.Value{"sentinel_password": secret.Text("Canary")}
		},
		"server " + all[0].Host: func(c *database.Config) { c.Password = secret.Text("Canary") },
	} {
		c := sentinelConfig(sentinel)
		edit(&c)
		err := connectTo(t, c).Verify(t.Context())
		if !strings.Contains(fault.Message(err), want) || strings.Contains(err.Error(), "Canary") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestDialedNodes: the rules for what may be dialed are asked for each node that a cluster names.
func TestDialedNodes(t *testing.T) {
	all := redistest.StartCluster(t)
	c := clusterConfig(all, "")
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == all[2].Addr() {
			return nil, fault.New("test.Dial", fault.Denied, "not this one")
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	if err := connectTo(t, c).Verify(t.Context()); !fault.Is(err, fault.Denied) ||
		!strings.Contains(fault.Message(err), all[2].Addr()) {
		t.Errorf("got %v, want Denied for the third", err)
	}
}

// TestClusterTLS: nodes are called at the ports for TLS, and each shows the certificate of its own
// address.
func TestClusterTLS(t *testing.T) {
	certs := tlstest.Certificates(t)
	all := redistest.StartTLSCluster(t, "--tls-cert-file", certs.Cert, "--tls-key-file", certs.Key,
		"--tls-ca-cert-file", certs.CA, "--tls-auth-clients", "no")
	c := clusterConfig(all, "")
	port, err := all[0].Do(t.Context(), "CONFIG", "GET", "tls-port")
	if err != nil {
		t.Fatal(err)
	}
	c.Extra["host"], c.Extra["port"], c.Extra["tls"], c.Extra["ca_cert"] = all[0].Host, strings.TrimPrefix(port,
		"tls-port\n"), "true", certs.PEM
	c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		for _, s := range all {
			if address == s.Addr() {
				t.Errorf("%s is dialed, which is not for TLS", address)
			}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	u := databasetest.NewUser()
	if err := connectTo(t, c).Create(t.Context(), u, []string{"~*", "+@read"}, nil); err != nil {
		t.Fatal(err)
	}
	if there, err := all.Exists(t.Context(), u.Name); !there || err != nil {
		t.Errorf("at all nodes: %v, %v", there, err)
	}
}
