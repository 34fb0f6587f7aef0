//go:build unix

package pgtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/daemon"
)

// Bouncer starts a PgBouncer for the server, which knows the users with their passwords, and
// returns its address. It ends with the test. If none is installed, the test is skipped, or fails
// if KEYTURN_TEST_REQUIRE is set.
func (s *Server) Bouncer(t testing.TB, poolMode string, users map[string]string) string {
	t.Helper()
	path, err := exec.LookPath("pgbouncer")
	if err != nil {
		if _, e := os.Stat("/usr/sbin/pgbouncer"); e == nil {
			path, err = "/usr/sbin/pgbouncer", nil
		}
	}
	if err != nil && os.Getenv("KEYTURN_TEST_REQUIRE") == "" {
		t.Skip("no PgBouncer is installed (Debian: apt-get install pgbouncer)")
	}
	if err != nil {
		t.Fatal(err)
	}
	port, err := daemon.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for name, password := range users {
		fmt.Fprintf(&list, "%q %q\n", name, password)
	}
	name := filepath.Join(s.Dir, "bouncer-"+strconv.Itoa(port))
	config := fmt.Sprintf("[databases]\n* = host=%s port=%d\n[pgbouncer]\nlisten_addr = %s\nlisten_port = "+
		"%d\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = %s.users\npool_mode = %s\nlogfile = %s.log\n",
		s.Host, s.Port, s.Host, port, name, poolMode, name)
	if err := errors.Join(os.WriteFile(name+".users", []byte(list.String()), 0o644),
		os.WriteFile(name+".ini", []byte(config), 0o644)); err != nil {
		t.Fatal(err)
	}
	cmd := s.Run(path, name+".ini")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address := net.JoinHostPort(s.Host, strconv.Itoa(port))
	await.Eventually(t, "PgBouncer answers", func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		return c.Close() == nil
	})
	return address
}
