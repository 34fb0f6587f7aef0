//go:build unix

package redistest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/daemon"
)

// Servers are those of a cluster, or a primary and its replicas. Each has its own users.
type Servers []*Server

// StartCluster starts a cluster of three primaries, and a replica of the first of them. Node times
// are so short that a primary that is stopped is counted as failed after a few seconds; without
// most of the primaries nothing is.
func StartCluster(t testing.TB) Servers { return startCluster(t, false) }

// StartTLSCluster starts one that speaks TLS, also among its nodes. The addresses of its servers
// are those without.
func StartTLSCluster(t testing.TB, args ...string) Servers {
	return startCluster(t, true, append(args, "--tls-cluster", "yes", "--tls-replication", "yes")...)
}

func startCluster(t testing.TB, encrypted bool, args ...string) Servers {
	t.Helper()
	port := func() string {
		n, err := daemon.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		return strconv.Itoa(n)
	}
	var all Servers
	for range 4 {
		bus, own := port(), slices.Clone(args)
		if encrypted {
			own = append(own, "--tls-port", port())
		}
		all = append(all, Start(t, Options{Args: append(own,
			"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-config-file", "nodes.conf",
			"--cluster-node-timeout", "2000",
			"--masteruser", Admin, "--masterauth", Password)}))
		met := strconv.Itoa(all[len(all)-1].Port)
		if encrypted {
			met = own[len(own)-1]
		}
		all[0].must(t, "CLUSTER", "MEET", "127.0.0.1", met, bus)
	}
	for i, slots := range []string{"0 5460", "5461 10922", "10923 16383"} {
		all[i].must(t, append([]string{"CLUSTER", "ADDSLOTSRANGE"}, strings.Fields(slots)...)...)
	}
	all.Joined(t)
	first := all[0].must(t, "CLUSTER", "MYID")
	all[3].must(t, "CLUSTER", "REPLICATE", first)
	for _, s := range all {
		await.Eventually(t, "the replica",
			func() bool { return strings.Contains(s.must(t, "CLUSTER", "NODES"), "slave "+first) })
	}
	return all
}

// Joined waits until every node knows every other one, and serves.
func (all Servers) Joined(t testing.TB) {
	t.Helper()
	for _, s := range all {
		await.Eventually(t, "the cluster", func() bool {
			nodes := s.must(t, "CLUSTER", "NODES")
			return strings.Contains(s.must(t, "CLUSTER", "INFO"), "cluster_state:ok") &&
				strings.Count(nodes, "\n") == len(all) &&
				!strings.Contains(nodes, "handshake") && !strings.Contains(nodes, "fail") &&
				strings.Count(nodes, " connected") == len(all)
		})
	}
}

// Primary is the name by which Sentinels know the primary.
const Primary = "mymaster"

// StartSentinel starts a primary, a replica of it, and a Sentinel that watches both, and counts
// one as down after a time. Its administrator is that of the servers.
func StartSentinel(t testing.TB, down time.Duration) (sentinel *Server, servers Servers) {
	t.Helper()
	login := []string{"--masteruser", Admin, "--masterauth", Password, "--repl-diskless-sync-delay", "0"}
	primary := Start(t, Options{Args: login})
	replica := Start(t, Options{Args: append(login, "--replicaof", primary.Host+" "+strconv.Itoa(primary.Port))})
	sentinel = Start(t, Options{sentinel: fmt.Sprintf(
		"sentinel monitor %[1]s %[2]s %[3]d 1\nsentinel auth-user %[1]s %[4]s\nsentinel auth-pass %[1]s %[5]s\n"+
			"sentinel down-after-milliseconds %[1]s %[6]d\nsentinel failover-timeout %[1]s 5000\n", Primary,
		primary.Host,
		primary.Port, Admin, Password, down.Milliseconds())})
	await.Eventually(t, "the replica", func() bool {
		state, err := sentinel.Do(t.Context(), "SENTINEL", "REPLICAS", Primary)
		return err == nil && strings.Contains(state, strconv.Itoa(replica.Port)) &&
			strings.Contains(state, "master-link-status\nok")
	})
	return sentinel, Servers{primary, replica}
}

func (s *Server) must(t testing.TB, words ...string) string {
	t.Helper()
	text, err := s.Do(t.Context(), words...)
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return text
}

var errDiffer = errors.New("the servers differ")

// Do runs a command at all as the administrator.
func (all Servers) Do(ctx context.Context, words ...string) error {
	var errs []error
	for _, s := range all {
		_, err := s.Do(ctx, words...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Login logs in as a user at all. Where only some let the user in, it fails the test.
func (all Servers) Login(t testing.TB) func(ctx context.Context, name, password string) error {
	return func(ctx context.Context, name, password string) error {
		var errs []error
		for _, s := range all {
			errs = append(errs, s.Login(ctx, name, password))
		}
		for i, err := range errs {
			if err != nil && strings.HasPrefix(err.Error(), "MOVED ") { // let in, and sent on
				errs[i] = nil
			}
		}
		if err := errors.Join(errs...); err == nil || !slices.Contains(errs, nil) {
			return err
		}
		t.Errorf("login of %s: %v: %v", name, errDiffer, errs)
		return errDiffer
	}
}

// Exists reports whether all have a user. That only some have it is an error.
func (all Servers) Exists(ctx context.Context, name string) (there bool, err error) {
	for i, s := range all {
		is, err := s.Exists(ctx, name)
		if err != nil {
			return false, err
		}
		if i > 0 && is != there {
			return false, fmt.Errorf("%w: %s at %s: %v", errDiffer, name, s.Addr(), is)
		}
		there = is
	}
	return there, nil
}
