package demo

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// The statements are those of common guides.
const (
	creation   = `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";`
	revocation = `DROP ROLE IF EXISTS "{{name}}";`
)

// lifetime is the TTL of an issued database user.
const lifetime = 5 * time.Second

// issuedUser is an issued database user with its expiry.
type issuedUser struct {
	Lease string `json:"lease_id"`
	Data  struct {
		Username string `json:"username"`
		Password string `json:"password"`
	} `json:"data"`
}

// databasePart issues users of PostgreSQL and waits until they expire. Without PostgreSQL it does
// nothing.
func (s *stage) databasePart(ctx context.Context) (err error) {
	defer func() {
		if err != nil && ctx.Err() == nil {
			s.out.say("database", "cannot continue: %v", err)
		}
	}()
	pg, err := openPostgres(ctx)
	if errors.Is(err, errNoPostgres) {
		s.out.say("database", "skipped: %v", err)
		return nil
	}
	if err != nil {
		return err
	}
	s.postgres.Store(pg)
	s.out.say("database", "a PostgreSQL of its own runs on 127.0.0.1:%d, with a table", pg.port)
	if err := s.connectDatabase(ctx, pg); err != nil {
		return fmt.Errorf("configuring the database engine: %w", err)
	}
	s.out.say("database", "role app-readonly: users that may read and expire after %s", lifetime)
	var users []issuedUser
	for range 3 {
		u, err := s.useCredentials(ctx, pg)
		if err != nil {
			return err
		}
		users = append(users, u)
	}
	return s.watchEnd(ctx, pg, users)
}

// connectDatabase creates a table to read, an administrator for the server, and the role.
func (s *stage) connectDatabase(ctx context.Context, pg *postgres) error {
	admin := "vault_admin"
	_, err := pg.query(ctx, superuser, pg.password, fmt.Sprintf(
		`CREATE TABLE orders (id int); INSERT INTO orders VALUES (1), (2), (3);
		CREATE ROLE %[1]s WITH LOGIN CREATEROLE PASSWORD '%[2]s'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO %[1]s WITH GRANT OPTION;`, admin, pg.password))
	if err != nil {
		return err
	}
	for _, r := range []struct {
		path string
		in   any
	}{
		{"sys/mounts/database", map[string]string{"type": "database"}},
		{"database/config/production", map[string]string{
			"plugin_name": "postgresql-database-plugin", "allowed_roles": "app-readonly",
			"connection_url": pg.template(), "username": admin, "password": pg.password,
		}},
		{"database/roles/app-readonly", map[string]string{
			"db_name": "production", "creation_statements": creation, "revocation_statements": revocation,
			"default_ttl": lifetime.String(), "max_ttl": "1m",
		}},
	} {
		if err := s.server.do(ctx, http.MethodPost, r.path, r.in, nil); err != nil {
			return err
		}
	}
	return nil
}

// useCredentials reads credentials and uses them.
func (s *stage) useCredentials(ctx context.Context, pg *postgres) (u issuedUser, err error) {
	began := time.Now()
	if err := s.server.raw(ctx, http.MethodGet, "database/creds/app-readonly", nil, &u); err != nil {
		return u, fmt.Errorf("requesting a database user: %w", err)
	}
	took := time.Since(began)
	n, err := pg.query(ctx, u.Data.Username, u.Data.Password, "SELECT count(*) FROM orders")
	if err != nil {
		return u, fmt.Errorf("using a database user: %w", err)
	}
	s.issued.Add(1)
	s.out.say("database", "%s issued in %d ms; it reads %s orders", u.Data.Username, took.Milliseconds(), n)
	return u, nil
}

// watchEnd waits until the users are gone, and checks that one cannot log in.
func (s *stage) watchEnd(ctx context.Context, pg *postgres, users []issuedUser) error {
	began := time.Now()
	for {
		left, err := s.usersLeft(ctx, pg)
		switch {
		case err != nil:
			return err
		case left > 0 && time.Since(began) > lifetime+20*time.Second:
			return fmt.Errorf("%d database users are left %s after the first was issued",
				left, time.Since(began).Round(time.Second))
		case left > 0:
			if err := wait(ctx, 100*time.Millisecond); err != nil {
				return err
			}
			continue
		}
		s.out.say("database", "their leases have expired: all %d users are dropped, although they had grants",
			len(users))
		if _, err := pg.query(ctx, users[0].Data.Username, users[0].Data.Password, "SELECT 1"); err == nil {
			return fmt.Errorf("database user %s still works", users[0].Data.Username)
		}
		s.out.say("database", "%s logs in once more: refused", users[0].Data.Username)
		return nil
	}
}

// usersLeft counts the issued users that still exist.
func (s *stage) usersLeft(ctx context.Context, pg *postgres) (int, error) {
	text, err := pg.query(ctx, superuser, pg.password, `SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'`)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}
