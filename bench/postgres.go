//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/keyturn/keyturn/test/pgtest"
)

const (
	pgWorkers  = 8
	pgExisting = 1000 // existing roles, because creating and dropping slow down with their number
	pgCreate   = `CREATE ROLE "%s" WITH LOGIN PASSWORD '%s' VALID UNTIL '%s'`
	pgDrop     = `DROP ROLE IF EXISTS "%s"`
)

// benchPostgres issues and revokes users of a real PostgreSQL, in turns with pgbench, which
// creates and drops them with the same SQL.
func benchPostgres(ctx context.Context, b *bench) (out []result, err error) {
	const title, budget = "PostgreSQL credentials, issued and revoked / pgbench", 0.95
	pg, err := pgtest.New(pgtest.Options{Durable: true})
	if errors.Is(err, pgtest.ErrAbsent) {
		return []result{{Row: title, Unit: "1/s", Budget: fmt.Sprintf("≥ %.2f", budget), Skipped: err.Error()}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer pg.Close()
	if err := populate(ctx, pg); err != nil {
		return nil, err
	}
	k, err := ready(b, "postgres", true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, k.stop()) }()
	if err := configureRole(k, pg); err != nil {
		return nil, err
	}
	script := filepath.Join(b.dir, "pgbench.sql")
	text := "\\set n random(100000000000, 999999999999)\n" +
		fmt.Sprintf(pgCreate, "v-app-9f3c1a-:n-1700000000", "pw-0123456789-abcdefghi", "2030-01-01 00:00:00+0000") +
		";\n" + fmt.Sprintf(pgDrop, "v-app-9f3c1a-:n-1700000000") + ";\n"
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return nil, err
	}
	var ours, theirs []float64
	for round := -1; round < b.rounds; round++ {
		one, err := issueFor(ctx, k, 2*b.round)
		if err != nil {
			return nil, err
		}
		other, err := pgbench(ctx, pg, script, 2*b.round)
		if err != nil {
			return nil, err
		}
		if round >= 0 {
			ours, theirs = append(ours, one), append(theirs, other)
		}
	}
	return []result{compared(title, ours, theirs, budget)}, nil
}

// populate creates the existing roles.
func populate(ctx context.Context, pg *pgtest.Server) error {
	c, err := pgx.Connect(ctx, pg.DSN("postgres"))
	if err != nil {
		return err
	}
	sql := fmt.Sprintf(
		`DO $$ BEGIN FOR i IN 1..%d LOOP EXECUTE format('CREATE ROLE %%I', 'existing-' || i); END LOOP; END $$`,
		pgExisting)
	_, err = c.Exec(ctx, sql)
	return errors.Join(err, c.Close(ctx))
}

// configureRole configures the connection and the role.
func configureRole(k *keyturn, pg *pgtest.Server) error {
	target := url.URL{Scheme: "postgresql", Host: pg.Addr(), Path: "/postgres", RawQuery: "sslmode=disable"}
	admin := k.as(k.root)
	return errors.Join(
		admin.call(http.MethodPost, "sys/mounts/database", map[string]string{"type": "database"}, nil),
		admin.call(http.MethodPost, "database/config/production", map[string]any{
			"plugin_name": "postgresql-database-plugin", "allowed_roles": "app", "username": pgtest.Superuser,
			"password": pgtest.Password,
			"connection_url": "postgresql://{{username}}:{{password}}@" + target.Host + target.Path + "?" +
				target.RawQuery, "max_open_connections": pgWorkers,
		}, nil),
		admin.call(http.MethodPost, "database/roles/app", map[string]any{
			"db_name": "production", "default_ttl": "1h", "max_ttl": "2h",
			"creation_statements":   fmt.Sprintf(pgCreate, "{{name}}", "{{password}}", "{{expiration}}") + ";",
			"revocation_statements": fmt.Sprintf(pgDrop, "{{name}}") + ";",
		}, nil),
	)
}

// issueFor issues and revokes users for d and returns their number per second.
func issueFor(ctx context.Context, k *keyturn, d time.Duration) (float64, error) {
	var all sync.WaitGroup
	counts, errs := make([]int, pgWorkers), make([]error, pgWorkers)
	began := time.Now()
	for w := range pgWorkers {
		all.Go(func() { counts[w], errs[w] = issueUntil(ctx, k, began.Add(d)) })
	}
	all.Wait()
	return float64(sum(counts)) / time.Since(began).Seconds(), errors.Join(errs...)
}

var issuedID = regexp.MustCompile(`"lease_id":"([^"]+)"`)

// issueUntil issues and revokes users one after the other, over one connection.
func issueUntil(ctx context.Context, k *keyturn, until time.Time) (n int, err error) {
	c, err := dial(k.address)
	if err != nil {
		return 0, err
	}
	defer c.close()
	for ; time.Now().Before(until) && ctx.Err() == nil; n++ {
		c.out = rendered(c.out[:0], http.MethodGet, "database/creds/app", k.token, nil)
		text, err := c.ask()
		if err != nil {
			return n, err
		}
		id := issuedID.FindSubmatch(text)
		if id == nil {
			return n, fmt.Errorf("nothing was issued: %s", text)
		}
		c.out = rendered(c.out[:0], http.MethodPut, "sys/leases/revoke", k.token,
			fmt.Appendf(nil, `{"lease_id":%q,"sync":true}`, id[1]))
		if _, err := c.ask(); err != nil {
			return n, err
		}
	}
	return n, ctx.Err()
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

func pgbench(ctx context.Context, pg *pgtest.Server, script string, d time.Duration) (float64, error) {
	workers := strconv.Itoa(pgWorkers)
	seconds := strconv.Itoa(max(1, int(d.Seconds())))
	out, err := exec.CommandContext(ctx, pg.Binary("pgbench"), "-n", "-M", "simple", "-c", workers, "-j", "2", "-T",
		seconds, "-f", script, pg.DSN("postgres")).CombinedOutput()
	found := tps.FindSubmatch(out)
	if err != nil || found == nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}
