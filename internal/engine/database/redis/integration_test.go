//go:build integration && unix

package redis

import (
	"bytes"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/daemon"
	"github.com/keyturn/keyturn/test/redistest"
	"github.com/keyturn/keyturn/test/tlstest"
)

func configOf(s *redistest.Server, username, password, persistence string) database.Config {
	return database.Config{
		Extra:    map[string]string{"host": s.Host, "port": strconv.Itoa(s.Port), "persistence_mode": persistence},
		Username: username, Password: secret.Text(password),
	}
}

func target(s *redistest.Server, c database.Config) databasetest.Target {
	return databasetest.Target{
		Provider: Provider, Config: c, Network: true,
		Creation: []string{`["~*", "+@read"]`}, Broken: []string{"+@read", "+@nosuchcategory"},
		Effect: func(m []byte) bool {
			return bytes.Contains(m, []byte("SETUSER")) || bytes.Contains(m, []byte("DELUSER"))
		},
		Login: s.Login, Exists: s.Exists,
		Shut:  map[string]func(*testing.T, string){"off": set(s, "off")},
		Bring: map[string]func(*testing.T, string){"off": set(s, "on")},
		Stop:  func() error { s.Stop(); return nil },
		Start: s.Start,
	}
}

func set(s *redistest.Server, rule string) func(*testing.T, string) {
	return func(t *testing.T, name string) {
		if _, err := s.Do(t.Context(), "ACL", "SETUSER", name, rule); err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	for _, persistence := range []string{"", "ACLFILE"} {
		t.Run("as admin "+persistence, func(t *testing.T) {
			s := redistest.Start(t, redistest.Options{})
			databasetest.Run(t, target(s, configOf(s, redistest.Admin, redistest.Password, persistence)))
		})
	}
	t.Run("as lender", func(t *testing.T) {
		s := redistest.Start(t, redistest.Options{})
		// The administrator of the documentation.
		if _, err := s.Do(t.Context(), "ACL", "SETUSER", "keyturn", "on", ">lender-password", "+acl", "+client",
			"+time"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Do(t.Context(), "ACL", "SAVE"); err != nil {
			t.Fatal(err)
		}
		databasetest.Run(t, target(s, configOf(s, "keyturn", "lender-password", "")))
	})
}

// A user outlives the server's restart where the list is kept, and so does its removal.
func TestPersistence(t *testing.T) {
	ctx := t.Context()
	for mode, file := range map[string]string{"ACLFILE": "users.acl", "rewrite": "redis.conf"} {
		s := redistest.Start(t, redistest.Options{ConfigFile: file == "redis.conf"})
		tgt := target(s, configOf(s, redistest.Admin, redistest.Password, mode))
		c, err := Provider.Connect(ctx, tgt.Config)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		u := databasetest.NewUser()
		if err := c.Create(ctx, u, tgt.Creation, nil); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		list, err := os.ReadFile(filepath.Join(s.Dir, file))
		if err != nil || !strings.Contains(string(list), u.Name) ||
			strings.Contains(string(list), u.Password.RevealString()) {
			t.Errorf("%s: it lacks the user or has the password itself, %v", file, err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if err := s.Login(ctx, u.Name, u.Password.RevealString()); err != nil {
			t.Errorf("after a restart: %v", err)
		}
		if _, err := c.Drop(ctx, u.Name, database.DropOptions{}); err != nil {
			t.Error(err)
		}
		s.Stop()
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if there, err := s.Exists(ctx, u.Name); err != nil || there {
			t.Errorf("after another: exists %v, %v", there, err)
		}
	}
}

// What the server's administrator can watch of commands has no password in it.
func TestNothingToOverhear(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{Args: []string{"--slowlog-log-slower-than", "0"}})
	tgt := target(s, configOf(s, redistest.Admin, redistest.Password, ""))
	c, err := Provider.Connect(ctx, tgt.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := databasetest.NewUser()
	if err := c.Create(ctx, u, tgt.Creation, nil); err != nil {
		t.Fatal(err)
	}
	next := databasetest.NewUser().Password
	if err := c.SetPassword(ctx, u.Name, next, nil); err != nil {
		t.Fatal(err)
	}
	log, err := s.Do(ctx, "SLOWLOG", "GET", "100")
	if err != nil || !strings.Contains(log, u.Name) {
		t.Fatalf("the log: %q, %v", log, err)
	}
	for _, pw := range []string{u.Password.RevealString(), next.RevealString()} {
		if strings.Contains(log, pw) {
			t.Errorf("the server's log has %q", pw)
		}
	}
}

func TestTLS(t *testing.T) {
	certs := tlstest.Certificates(t)
	free, err := daemon.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := redistest.Start(t, redistest.Options{Args: []string{
		"--tls-port", strconv.Itoa(free), "--tls-cert-file", certs.Cert, "--tls-key-file", certs.Key,
		"--tls-ca-cert-file", certs.CA, "--tls-auth-clients", "no",
	}})
	plain := strconv.Itoa(s.Port)
	secured, err := s.Do(t.Context(), "CONFIG", "GET", "tls-port")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(secured, "\n")
	for name, tt := range map[string]struct {
		extra map[string]string
		want  string // in the error; "": it works
	}{
		"verified":   {map[string]string{"tls": "true", "ca_cert": certs.PEM, "port": port}, ""},
		"unknown CA": {map[string]string{"tls": "true", "port": port}, "known authority"},
		"wrong name": {map[string]string{"tls": "true", "ca_cert": certs.PEM, "port": port,
			"host": "localhost"}, "another name"},
		"not verified": {map[string]string{"tls": "true", "insecure_tls": "true", "port": port}, ""},
		"plain there":  {map[string]string{"port": port}, "cannot connect"},
		"TLS where it is not": {map[string]string{"tls": "true", "insecure_tls": "true", "port": plain},
			"cannot connect"},
	} {
		c := configOf(s, redistest.Admin, redistest.Password, "")
		maps.Copy(c.Extra, tt.extra)
		ctx, cancel := context.WithTimeout(t.Context(), await.Patience)
		conn, err := Provider.Connect(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		err = conn.Verify(ctx)
		if tt.want == "" && err != nil || tt.want != "" &&
			(err == nil || !strings.Contains(fault.Message(err), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		conn.Close()
		cancel()
	}
}

// Where the list cannot be kept, nothing is made.
func TestPersistenceFails(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	tgt := target(s, configOf(s, redistest.Admin, redistest.Password, "REWRITE")) // it has no configuration file
	c, err := Provider.Connect(ctx, tgt.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := databasetest.NewUser()
	if err := c.Create(ctx, u, tgt.Creation, nil); err == nil || !database.Unchanged(err) ||
		!strings.Contains(err.Error(), "persistence_mode") {
		t.Errorf("got %v, want an error about persistence_mode, and nothing changed", err)
	}
	if there, err := s.Exists(ctx, u.Name); err != nil || there {
		t.Errorf("exists: %v, %v", there, err)
	}
}

// A user's sessions end with it.
//
// https://github.com/hashicorp/vault/issues/10681
// https://github.com/hashicorp/vault/pull/8668
func TestSessionsEnd(t *testing.T) {
	ctx := t.Context()
	s := redistest.Start(t, redistest.Options{})
	tgt := target(s, configOf(s, redistest.Admin, redistest.Password, ""))
	c, err := Provider.Connect(ctx, tgt.Config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u := databasetest.NewUser()
	if err := c.Create(ctx, u, tgt.Creation, nil); err != nil {
		t.Fatal(err)
	}
	as, err := Provider.Connect(ctx, configOf(s, u.Name, u.Password.RevealString(), ""))
	if err != nil {
		t.Fatal(err)
	}
	defer as.Close()
	user, err := as.(*conn).connect(ctx, as.(*conn).seeds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer user.shut()
	if _, err := user.do(ctx, []string{"AUTH", u.Name, u.Password.RevealString()}, []string{"GET", "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Drop(ctx, u.Name, database.DropOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := user.do(ctx, []string{"GET", "x"}); err == nil || !user.broken {
		t.Errorf("a session of a dropped user: %v, want its end", err)
	}
}

// A pooled session of a server that has become a replica is not used again: a replica takes
// changes of its list without an error.
func TestFailover(t *testing.T) {
	old, promoted := redistest.Start(t, redistest.Options{}), redistest.Start(t, redistest.Options{})
	databasetest.RunFailover(t, target(old, configOf(old, redistest.Admin, redistest.Password, "")), promoted.Addr(),
		func() {
			if _, err := old.Do(t.Context(), "REPLICAOF", promoted.Host, strconv.Itoa(promoted.Port)); err != nil {
				t.Fatal(err)
			}
		})
}

// TestWhyRefused: the command that the administrator may not run, the rule that the server cannot
// read, and the user who is not there are named.
func TestWhyRefused(t *testing.T) {
	s := redistest.Start(t, redistest.Options{})
	for name, rules := range map[string][]string{"lender": {"+acl", "+client", "+time"}, "blind": {"+client", "+time"},
		"keeper": {"+acl", "+client", "+time", "-acl|deluser"}} {
		if _, err := s.Do(t.Context(),
			append([]string{"ACL", "SETUSER", name, "on", ">lender-password"}, rules...)...); err != nil {
			t.Fatal(err)
		}
	}
	connect := func(name, password, persistence string) database.Conn {
		c, err := Provider.Connect(t.Context(), configOf(s, name, password, persistence))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	lender, keeper := connect("lender", "lender-password", ""), connect("keeper", "lender-password", "")
	u := databasetest.NewUser()
	if err := keeper.Create(t.Context(), u, []string{"+@read"}, nil); err != nil {
		t.Fatal(err)
	}
	_, undropped := keeper.Drop(t.Context(), u.Name, database.DropOptions{})
	for _, tt := range []struct {
		err  error
		want string
	}{
		{connect("lender", "wrong", "").Verify(t.Context()), "or the user is off"},
		{connect("blind", "lender-password", "").Verify(t.Context()), "may not run acl|getuser"},
		{undropped, "may not run acl|deluser"},
		{connect("lender", "lender-password", "REWRITE").Create(t.Context(), databasetest.NewUser(),
			[]string{"+@read"}, nil), "may not run config|rewrite"},
		{lender.Create(t.Context(), databasetest.NewUser(), []string{"+@read", "+nosuch"}, nil),
			"the rule +nosuch of creation_statements"},
		{lender.SetPassword(t.Context(), "absent", secret.Text("password"), nil),
			"there is no user absent in Redis; create it first"},
	} {
		if got := fault.Message(tt.err); !strings.Contains(got, tt.want) {
			t.Errorf("got %q, want it to say %q", got, tt.want)
		}
	}
}
