package database_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// chaos is the users of static roles – one alone, two that take turns, one that changes its own
// password – and the administrator, whose passwords rotate while users are leased.
type chaos struct {
	*rotatetest.Harness
	worlds [2]*enginetest.World
	fake   *databasetest.Fake
	log    *enginetest.Log
	leased *enginetest.Leased
	asked  bool // the two that take turns are rotated on request, too

	mu      sync.Mutex // guards the rest
	faults  []*misfortune
	secrets []string
}

// A misfortune is the fate of the next few calls of a kind.
type misfortune struct {
	call        string // "": any
	fate        databasetest.Fate
	skip, times int
}

// readEvery is how long the readers of static roles use what they have read.
const readEvery = 20 * time.Second

// taking are the users of static roles, by role.
var taking = map[string][]string{"svc": {"svc"}, "pair": {"left", "right"}, "own": {"self"}}

func newChaos(h *rotatetest.Harness) rotatetest.Subject {
	c := &chaos{Harness: h, fake: new(databasetest.Fake), log: new(enginetest.Log), asked: h.Rand.IntN(2) == 0}
	c.leased = &enginetest.Leased{Barrier: c.Barrier, Users: c.users, Complain: h.NoteError}
	return c
}

// Open opens the mount. It runs in a bubble.
func (c *chaos) Open(server int, store storage.Store) {
	if w := c.worlds[server]; w != nil {
		w.Reopen(c.T)
		return
	}
	p := c.fake.Provider()
	connect := p.Connect
	p.Connect = func(ctx context.Context, config database.Config) (database.Conn, error) {
		conn, err := connect(ctx, config)
		if err != nil {
			return nil, err
		}
		return &databasetest.Fated{
			Conn: conn, Fate: c.fateOf,
			Late: func(u database.User, statements []string) {
				c.later(connect, config, func(conn database.Conn, held, busy time.Duration) error {
					time.Sleep(held)
					return conn.Create(context.Background(), u,
						append([]string{"SLEEP " + busy.String()}, statements...), nil)
				})
			},
			LateSet: func(name string, password secret.Value, statements []string) {
				c.later(connect, config, func(conn database.Conn, held, busy time.Duration) error {
					time.Sleep(held + busy)
					return conn.SetPassword(context.Background(), name, password, statements)
				})
			},
			Pass: func(call string, password secret.Value, make func()) error {
				if call != "set password" {
					return c.Call(server, rotatetest.Call{What: "the database to " + call}, make)
				}
				c.mu.Lock()
				c.secrets = append(c.secrets, password.RevealString())
				c.mu.Unlock()
				return c.Call(server, rotatetest.Call{What: "set", Value: password.RevealString()}, make)
			},
		}, nil
	}
	c.worlds[server] = enginetest.Open(c.T, database.New(p), enginetest.Config{
		Store: store, Between: c.Between(server), Log: slog.New(slog.NewJSONHandler(c.log, nil)),
	})
}

// later makes a call after its client has died: the network holds its message, or the server is
// busy with it. It runs in a bubble.
func (c *chaos) later(connect func(ctx context.Context, c database.Config) (database.Conn, error),
	config database.Config, call func(conn database.Conn, held, busy time.Duration) error) {
	c.mu.Lock()
	held, busy := time.Duration(0), time.Duration(0)
	if len(c.secrets)%2 == 0 {
		held = 9 * time.Second // past its deadline, or not
	} else {
		busy = 9 * time.Second
	}
	c.mu.Unlock()
	go func() {
		conn, err := connect(context.Background(), config)
		if err != nil {
			return
		}
		defer conn.Close()
		c.Note("what comes late: %v", call(conn, held, busy))
	}()
}

// Stop ends a server.
func (c *chaos) Stop(server int) { c.worlds[server].Stop() }

// Begin configures the mount.
func (c *chaos) Begin() {
	for _, users := range taking {
		for _, name := range users {
			c.fake.AddUser(name, oldPassword)
		}
	}
	must := func(path string, body fields) { c.worlds[0].Must(c.T, route.Write, path, body) }
	must("config/prod", with(prod, fields{"allowed_roles": "*"}))
	must("config/own",
		fields{"plugin_name": "fake-database-plugin", "connection_url": prod["connection_url"], "allowed_roles": "*",
			"self_managed": true})
	if c.Rand.IntN(2) == 0 {
		must("config/prod", fields{"rotation_period": fmt.Sprint(5+c.Rand.IntN(20), "m")})
	}
	must("roles/short", with(ro, fields{"default_ttl": "5s", "max_ttl": "1m"}))
	must("roles/long", with(ro, fields{"default_ttl": "1m", "max_ttl": "10m"}))
	must("roles/slow",
		with(ro, fields{"default_ttl": "20s", "max_ttl": "2m", "creation_statements": []string{"SLEEP 3s", "CREATE"}}))
	must("roles/bad", with(ro, fields{"default_ttl": "10s", "max_ttl": "1m", "revocation_statements": "FAIL"}))
	must("static-roles/svc", with(svc, fields{"rotation_period": "3m"}))
	must("static-roles/pair",
		with(svc, fields{"username": "left", "alternate_username": "right", "rotation_period": "10m"}))
	must("static-roles/own",
		with(svc, fields{"db_name": "own", "username": "self", "self_managed_password": oldPassword,
			"rotation_period": "9m"}))
}

// fateOf decides on a call.
func (c *chaos) fateOf(call string) databasetest.Fate {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.faults {
		if m.times == 0 || m.call != "" && m.call != call {
			continue
		}
		if m.skip > 0 {
			m.skip--
			continue
		}
		m.times--
		sets := call == "set password"
		if m.fate == databasetest.Late && call != "create" && !sets || m.fate == databasetest.Blind &&
			call != "login" || m.fate == databasetest.Lie && !sets {
			return databasetest.Before
		}
		return m.fate
	}
	return databasetest.Well
}

// Break orders some failures of the database.
func (c *chaos) Break() {
	calls := []string{"", "verify", "create", "create", "create", "renew", "disable", "drop", "drop", "set password",
		"set password", "set password", "login", "login", "settle"}
	fates := []databasetest.Fate{
		databasetest.Before, databasetest.Lost, databasetest.Hang, databasetest.Stuck, databasetest.Refuse,
		databasetest.Late, databasetest.Late,
		// never both: what is not done could be found out by nobody
		rotatetest.Pick(c.Harness, databasetest.Blind, databasetest.Lie),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
	for range c.Rand.IntN(4) {
		m := &misfortune{rotatetest.Pick(c.Harness, calls...), rotatetest.Pick(c.Harness, fates...), c.Rand.IntN(3),
			1 + c.Rand.IntN(6)}
		c.faults = append(c.faults, m)
		c.Note("the database fails: %+v", *m)
	}
}

// Heal ends the failures.
func (c *chaos) Heal() { c.mu.Lock(); defer c.mu.Unlock(); c.faults = nil }

// Act leases, revokes, renews, rotates, or changes the configuration.
func (c *chaos) Act(server int) (string, func() error) {
	w := c.worlds[server]
	ask := func(path string, body any) (string, func() error) {
		return path, func() error { return w.Write(path, body) }
	}
	switch n := c.Rand.IntN(14); {
	case n < 6:
		path := "creds/" + rotatetest.Pick(c.Harness, "short", "long", "slow", "bad")
		return path, func() error {
			a, err := w.Do(route.Read, path, nil)
			if err == nil {
				c.leased.Give(a.Lease.ID)
				c.mu.Lock()
				defer c.mu.Unlock()
				c.secrets = append(c.secrets, a.Data["password"].(string))
			}
			return err
		}
	case n < 8:
		return "revoke", func() error { return c.leased.First(true, w.Revoke) }
	case n < 9:
		return "renew", func() error {
			return c.leased.First(false, func(id string) error { _, err := w.Renew(id, 30*time.Second); return err })
		}
	case n < 10:
		return ask("config/prod", fields{"rotation_period": fmt.Sprint(5+c.Rand.IntN(20), "m")})
	case n < 11:
		return ask("static-roles/svc", fields{"rotation_period": fmt.Sprint(2+c.Rand.IntN(4), "m")})
	case n < 12 && c.asked:
		return ask("rotate-role/pair", nil)
	}
	return ask(rotatetest.Pick(c.Harness, "rotate-role/svc", "rotate-role/own", "rotate-root/prod"), nil)
}

// Readers read the static roles. Who reads those of which one is always left alone may use what
// was read until the next look.
func (c *chaos) Readers() (out []rotatetest.Reader) {
	for role := range taking {
		out = append(out, rotatetest.Reader{
			Name: "a reader of " + role, Lasts: role == "pair" && !c.asked,
			Read: func(server int) (string, time.Duration, bool) {
				a, err := c.worlds[server].Do(route.Read, "static-creds/"+role, nil)
				if err != nil || len(a.Warnings) > 0 {
					return "", 0, false
				}
				return a.Data["username"].(string) + " " + a.Data["password"].(string), readEvery, true
			},
			Works: func(value string) bool {
				user, password, _ := strings.Cut(value, " ")
				return c.fake.Has(user, password)
			},
		})
	}
	return out
}

// users are those in the database that people have not made.
func (c *chaos) users() []string {
	return slices.DeleteFunc(c.fake.Users(), func(name string) bool { return !strings.HasPrefix(name, "v-") })
}

// Check wants each user in a lease, and each lease that a client was given to have its user.
func (c *chaos) Check(int) { c.leased.Check() }

// Repair corrects what cannot be revoked, lets the longest wait between two tries pass, and
// rotates all once more. It runs in a bubble.
func (c *chaos) Repair() {
	w := c.worlds[0]
	w.Must(c.T, route.Write, "roles/bad", with(ro, fields{"default_ttl": "10s", "max_ttl": "1m"}))
	time.Sleep(3 * time.Hour)
	c.leased.CheckNone()
	for _, path := range []string{"rotate-role/svc", "rotate-role/pair", "rotate-role/pair", "rotate-role/own",
		"rotate-root/prod"} {
		if path == "rotate-role/pair" {
			c.settled()
		}
		w.Must(c.T, route.Write, path, nil)
	}
	a := w.Must(c.T, route.Read, "creds/long", nil)
	if err := c.fake.Login(a.Data["username"].(string), a.Data["password"].(string)); err != nil {
		c.Error("what is leased at the end does not work")
	}
	if err := w.Revoke(a.Lease.ID); err != nil || len(c.users()) != 0 {
		c.Errorf("revoking: %v, %q are left", err, c.users())
	}
}

// settled waits until readers of the pair have read what its last rotation, of the schedule or a
// request, has left: one rotation leaves a user alone, and two within a reader's interval do not.
// It runs in a bubble.
func (c *chaos) settled() {
	for {
		a := c.worlds[0].Must(c.T, route.Read, "static-creds/pair", nil)
		at, err := time.Parse(time.RFC3339Nano, a.Data["last_vault_rotation"].(string))
		if err != nil {
			c.Fatal(err)
		}
		wait := time.Until(at.Add(2 * readEvery)) // one that asks a server that is down asks again later
		if wait <= 0 {
			return
		}
		time.Sleep(wait)
	}
}

// Live are the passwords that are in force, but those that people have set.
func (c *chaos) Live() (out []rotatetest.Live) {
	in := []string{c.fake.Root()}
	for _, users := range taking {
		for _, name := range users {
			in = append(in, c.fake.Password(name))
		}
	}
	for _, password := range in {
		if password != oldPassword && password != databasetest.FakePassword {
			out = append(out, rotatetest.Live{Value: password})
		}
	}
	return out
}

// Shown are answers, events and logs.
func (c *chaos) Shown() (text string, secrets []string) {
	for _, path := range []string{"config/prod", "config/own", "static-roles/svc", "static-roles/pair",
		"static-roles/own"} {
		text += c.worlds[0].Must(c.T, route.Read, path, nil).Text
	}
	for _, w := range c.worlds {
		if w != nil {
			text += fmt.Sprint(w.Events())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return text + c.log.String(), c.secrets
}

// TestCrashes: whatever the database does, and whenever a server dies, there is in the end no
// user that no lease knows, no lease without a user, no password in force that no record keeps,
// and nothing left to do.
func TestCrashes(t *testing.T) {
	const m = "mount/" + enginetest.UUID + "/"
	rotatetest.Play(t, 40, rotatetest.Plan{
		Subject: newChaos, Length: 90 * time.Minute, Round: 10 * time.Minute, Recovery: time.Minute, Uses: 100,
		Rows: []rotatetest.Rows{
			{Records: m + "static/", Secrets: m + "sts/", History: m + "sth/", Journal: m + "stj/"},
			{Records: m + "root/", Secrets: m + "rts/", History: m + "rth/", Journal: m + "rtj/"},
		},
	})
}
