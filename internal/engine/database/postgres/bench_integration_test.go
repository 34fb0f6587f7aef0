//go:build integration && unix

package postgres

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/test/pgtest"
)

// BenchmarkAgainstPgbench creates and drops users with the same SQL and number of sessions as
// pgbench, in alternating runs, and reports the ratio.
func BenchmarkAgainstPgbench(b *testing.B) {
	const sessions, seconds, rounds = 4, 3, 3
	const create = `CREATE ROLE "%[1]s" WITH LOGIN PASSWORD '%[2]s' VALID UNTIL '2030-01-01 00:00:00+0000'`
	s := pgtest.Start(b, pgtest.Options{Durable: true})
	config := configOf(s, pgtest.Superuser, pgtest.Password)
	c, err := Provider.Connect(b.Context(), config)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	script := filepath.Join(b.TempDir(), "script")
	if err := os.WriteFile(script, []byte("\\set n random(1, 1000000000000)\n"+
		fmt.Sprintf(create, "v-bench-:n", "pw-0123456789abcdef")+";\n"+
		`DROP ROLE IF EXISTS "v-bench-:n";`+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	var pgbench, keyturn float64
	for range rounds {
		out, err := exec.CommandContext(b.Context(), s.Binary("pgbench"), "-n", "-M", "simple", "-c",
			strconv.Itoa(sessions), "-T", strconv.Itoa(seconds), "-f", script, s.DSN("postgres")).CombinedOutput()
		tps := regexp.MustCompile(`tps = ([0-9.]+)`).FindSubmatch(out)
		if err != nil || tps == nil {
			b.Fatalf("pgbench: %v\n%s", err, out)
		}
		one, _ := strconv.ParseFloat(string(tps[1]), 64)
		pgbench += one / rounds
		keyturn += createAndDrop(b, c, sessions, seconds*time.Second) / rounds
	}
	b.ReportMetric(pgbench, "pgbench/s")
	b.ReportMetric(keyturn, "keyturn/s")
	b.ReportMetric(keyturn/pgbench, "ratio")
}

func createAndDrop(b *testing.B, c database.Conn, workers int, d time.Duration) float64 {
	var done atomic.Int64
	var all sync.WaitGroup
	end := time.Now().Add(d)
	for range workers {
		all.Go(func() {
			for time.Now().Before(end) {
				u := newUser()
				if err := c.Create(b.Context(), u,
					[]string{`CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`},
					nil); err != nil {
					b.Error(err)
				}
				if _, err := c.Drop(b.Context(), u.Name,
					database.DropOptions{Statements: []string{guideDrop}}); err != nil {
					b.Error(err)
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / d.Seconds()
}
