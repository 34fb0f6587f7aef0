//go:build integration && unix

package database_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/mysql"
	"github.com/keyturn/keyturn/internal/engine/database/redis"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/test/mariatest"
	"github.com/keyturn/keyturn/test/redistest"
)

// A place is one kind of database. Its administrator has only the privileges that the
// documentation requires. It has the existing users svc, svc_b, lone and Odd-name.1, all with the
// password "before".
type place struct {
	*world
	admin, adminPassword string
	config               fields // the configuration of a connection, without credentials
	statements           fields // for static roles; nil if the kind has none
	try                  func(name, password string) error
	number               func() int64                // number of issued users
	renew                func(name, password string) // sets the password of an existing user
	shut                 map[string]way              // ways to prevent logins from here
}

// A way prevents a user from logging in, and allows it again.
type way struct{ take, bring func(name string) }

// kinds are all kinds. Each place has the connection "production" and the role "app-readonly".
var kinds = map[string]func(t *testing.T) *place{"postgresql": postgresPlace, "mariadb": mariaPlace,
	"redis": redisPlace, "redis cluster": redisClusterPlace}

func postgresPlace(t *testing.T) *place {
	w := open(t, enginetest.Config{})
	w.pg.Exec(t, "postgres", services)
	alter := func(what string) func(name string) {
		return func(name string) { w.pg.Exec(t, "postgres", `ALTER ROLE "`+name+`" WITH `+what) }
	}
	return &place{
		renew: func(name, password string) { alter("PASSWORD '" + password + "'")(name) },
		shut: map[string]way{
			"NOLOGIN":     {alter("NOLOGIN"), alter("LOGIN")},
			"VALID UNTIL": {alter("VALID UNTIL '2001-01-01'"), alter("VALID UNTIL 'infinity'")},
		},
		world: w, admin: "vault_admin", adminPassword: "vault_admin_password", try: w.login, number: w.users,
		config: fields{
			"plugin_name":    "postgresql-database-plugin",
			"connection_url": "postgresql://{{username}}:{{password}}@" + w.pg.Addr() + "/postgres?sslmode=disable",
		},
		statements: fields{"rotation_statements": `ALTER USER "{{name}}" WITH PASSWORD '{{password}}';`},
	}
}

func mariaPlace(t *testing.T) *place {
	s := mariatest.Start(t)
	s.Exec(t, `CREATE DATABASE app; CREATE ROLE app_readonly; GRANT SELECT ON app.* TO app_readonly;
CREATE USER 'keyturn'@'%' IDENTIFIED BY 'lender-password'; GRANT CREATE USER, PROCESS, CONNECTION ADMIN ON *.* TO 'keyturn'@'%';
GRANT SELECT, UPDATE ON mysql.* TO 'keyturn'@'%'; GRANT app_readonly TO 'keyturn'@'%' WITH ADMIN OPTION;`)
	for _, name := range []string{"svc", "svc_b", "lone", "Odd-name.1"} {
		s.Exec(t, fmt.Sprintf("CREATE USER '%[1]s'@'%%' IDENTIFIED BY 'before'; GRANT SELECT ON app.* TO '%[1]s'@'%%'",
			name))
	}
	execute := func(format string) func(name string) {
		return func(name string) { s.Exec(t, fmt.Sprintf(format, name)) }
	}
	p := &place{
		renew: func(name, password string) { execute("ALTER USER '%s'@'%%' IDENTIFIED BY '" + password + "'")(name) },
		shut: map[string]way{
			"another host": {execute("RENAME USER '%[1]s'@'%%' TO '%[1]s'@'10.9.%%'"),
				execute("RENAME USER '%[1]s'@'10.9.%%' TO '%[1]s'@'%%'")},
			"REQUIRE SSL": {execute("ALTER USER '%[1]s'@'%%' REQUIRE SSL"),
				execute("ALTER USER '%[1]s'@'%%' REQUIRE NONE")},
			"ACCOUNT LOCK": {execute("ALTER USER '%[1]s'@'%%' ACCOUNT LOCK"),
				execute("ALTER USER '%[1]s'@'%%' ACCOUNT UNLOCK")},
		},
		world: with(t, mysql.Provider), admin: "keyturn", adminPassword: "lender-password",
		config: fields{"plugin_name": "mysql-database-plugin",
			"connection_url": "{{username}}:{{password}}@tcp(" + s.Addr() + ")/"},
		statements: fields{"rotation_statements": "ALTER USER '{{name}}'@'%' IDENTIFIED BY '{{password}}';"},
		try:        func(name, password string) error { return s.Login(t.Context(), name, password) },
		number: func() int64 {
			n, err := s.Int(context.WithoutCancel(t.Context()),
				"SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'v-%'")
			if err != nil {
				t.Fatal(err)
			}
			return n
		},
	}
	p.furnish(fields{"creation_statements": "CREATE USER '{{name}}'@'%' IDENTIFIED BY '{{password}}'; GRANT " +
		"app_readonly TO '{{name}}'@'%'; SET DEFAULT ROLE app_readonly FOR '{{name}}'@'%';"})
	return p
}

func redisPlace(t *testing.T) *place {
	return redisAt(t, redistest.Servers{redistest.Start(t, redistest.Options{})}, fields{})
}

func redisClusterPlace(t *testing.T) *place {
	return redisAt(t, redistest.StartCluster(t), fields{"cluster": true})
}

func redisAt(t *testing.T, all redistest.Servers, config fields) *place {
	do := func(words ...string) {
		if err := all.Do(t.Context(), words...); err != nil {
			t.Fatalf("%q: %v", words, err)
		}
	}
	do("ACL", "SETUSER", "keyturn", "on", ">lender-password", "+acl", "+client", "+time", "+cluster|nodes")
	for _, name := range []string{"svc", "svc_b", "Odd-name.1"} {
		do("ACL", "SETUSER", name, "on", ">before", "~*", "+@read")
	}
	do("ACL", "SETUSER", "lone", "on", ">before", "~*", "+@read", "+acl|setuser", "+acl|getuser", "+acl|save",
		"+client|setname", "+cluster|nodes")
	set := func(rules ...string) func(name string) {
		return func(name string) { do(append([]string{"ACL", "SETUSER", name}, rules...)...) }
	}
	maps.Copy(config,
		fields{"plugin_name": "redis-database-plugin", "host": all[0].Host, "port": strconv.Itoa(all[0].Port),
			"persistence_mode": "ACLFILE"})
	login := all.Login(t)
	p := &place{
		renew: func(name, password string) { set("resetpass", ">"+password)(name) },
		shut:  map[string]way{"off": {set("off"), set("on")}},
		world: with(t, redis.Provider), admin: "keyturn", adminPassword: "lender-password",
		config: config,
		try:    func(name, password string) error { return login(t.Context(), name, password) },
		number: func() int64 {
			n := int64(0)
			for _, s := range all {
				list, err := s.Do(t.Context(), "ACL", "USERS")
				if err != nil {
					t.Fatal(err)
				}
				for _, name := range strings.Fields(list) {
					if strings.HasPrefix(name, "v-") {
						n++
					}
				}
			}
			return n / int64(len(all))
		},
	}
	p.furnish(fields{"creation_statements": `["~*", "+@read"]`})
	return p
}

// with opens an engine with one kind of database.
func with(t *testing.T, provider database.Provider) *world {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	return &world{enginetest.Open(t, database.New(provider), enginetest.Config{Log: log}), t, nil}
}

// furnish writes the connection, and a role with short leases.
func (p *place) furnish(role fields) {
	p.t.Helper()
	p.Must(p.t, route.Write, "config/production",
		p.with(p.config, fields{"allowed_roles": "app-*", "username": p.admin, "password": p.adminPassword}))
	p.Must(p.t, route.Write, "roles/app-readonly",
		p.with(role, fields{"db_name": "production", "default_ttl": "3s", "max_ttl": "1h"}))
}

// with returns the fields of both.
func (p *place) with(a, b fields) fields {
	all := fields{}
	for _, one := range []fields{a, b} {
		for k, v := range one {
			all[k] = v
		}
	}
	return all
}

// static writes a static role of the connection "production".
func (p *place) static(role, user, period string, more fields) {
	p.t.Helper()
	p.Must(p.t, route.Write, "static-roles/"+role,
		p.with(more, fields{"db_name": "production", "username": user, "rotation_period": period}))
}

// given reads the credentials of a static role, and logs in with them.
func (p *place) given(role string) (name, password string) {
	p.t.Helper()
	a := p.Must(p.t, route.Read, "static-creds/"+role, nil)
	name, password = a.Data["username"].(string), a.Data["password"].(string)
	if err := p.try(name, password); err != nil {
		p.t.Errorf("logging in as %s: %v", name, err)
	}
	return name, password
}
