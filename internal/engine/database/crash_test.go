package database_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/route"
)

// crashes is how many seeds are played.
var crashes = flag.Uint64("crashes", 60, "how many seeds TestCrashes plays")

// chaos is a world in which the database fails, commits fail, and the process dies, by a seed.
type chaos struct {
	*world
	*enginetest.Chaos

	mu     sync.Mutex      // guards the rest
	lent   map[string]bool // the leases that a client was given and has not revoked
	faults []*misfortune
	last   map[string]string // what readers of static roles were given last, as user and password
	reads  int
}

// A misfortune is the fate of the next few calls of a kind.
type misfortune struct {
	call        string // "": any
	fate        databasetest.Fate
	skip, times int
}

// play makes the world of a seed. It runs in a bubble.
func play(t *testing.T, seed uint64) *chaos {
	c := &chaos{Chaos: enginetest.NewChaos(seed, 11), lent: map[string]bool{}, last: map[string]string{}}
	c.world = &world{t: t, fake: new(databasetest.Fake), log: new(syncBuffer), fate: c.fateOf, later: c.createLater}
	c.open(c.Config())
	defer c.Print(t)
	c.furnish()
	for range 3 + c.Rand.IntN(6) {
		c.round()
	}
	c.calm()
	c.judge()
	return c
}

// furnish makes what is there before.
func (c *chaos) furnish() {
	for _, name := range []string{"svc", "left", "right"} {
		c.fake.AddUser(name, oldPassword)
	}
	c.Must(c.t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
	if c.Rand.IntN(2) == 0 {
		c.Must(c.t, route.Write, "config/prod", fields{"rotation_period": fmt.Sprint(20+c.Rand.IntN(100), "s")})
	}
	c.Must(c.t, route.Write, "roles/short", with(ro, fields{"default_ttl": "5s", "max_ttl": "1m"}))
	c.Must(c.t, route.Write, "roles/long", with(ro, fields{"default_ttl": "1m", "max_ttl": "10m"}))
	c.Must(c.t, route.Write, "roles/slow", with(ro, fields{"default_ttl": "20s", "max_ttl": "2m", "creation_statements": []string{"SLEEP 3s", "CREATE"}}))
	c.Must(c.t, route.Write, "roles/bad", with(ro, fields{"default_ttl": "10s", "max_ttl": "1m", "revocation_statements": "FAIL"}))
	c.Must(c.t, route.Write, "static-roles/svc", with(svc, fields{"rotation_period": "40s"}))
	c.Must(c.t, route.Write, "static-roles/pair", with(svc, fields{"username": "left", "alternate_username": "right", "rotation_period": "60s"}))
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
		if m.fate == databasetest.Late && call != "create" || m.fate == databasetest.Blind && call != "login" {
			return databasetest.Before
		}
		return m.fate
	}
	return databasetest.Well
}

// createLater is a create that goes on after its client has died: the network holds its message, or the server is busy with it.
// It runs in a bubble.
func (c *chaos) createLater(connect connecting, config database.Config, u database.User, statements []string) {
	held, busy := time.Duration(0), time.Duration(0)
	if u.Attempt.ID[0]%2 == 0 {
		held = 9 * time.Second // past its deadline, or not
	} else {
		busy = 9 * time.Second
	}
	go func() {
		time.Sleep(held)
		conn, err := connect(context.Background(), config)
		if err != nil {
			return
		}
		defer conn.Close()
		err = conn.Create(context.Background(), u, append([]string{"SLEEP " + busy.String()}, statements...), nil)
		c.Tell("a late create of %s: %v", u.Name, err)
	}()
}

// breakDatabase orders some faults.
func (c *chaos) breakDatabase() {
	calls := []string{"", "verify", "create", "create", "create", "renew", "disable", "drop", "drop", "set password", "set password", "login", "login", "settle"}
	fates := []databasetest.Fate{
		databasetest.Before, databasetest.Lost, databasetest.Hang, databasetest.Stuck, databasetest.Refuse, databasetest.Late, databasetest.Late, databasetest.Blind,
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = nil
	for range c.Rand.IntN(4) {
		m := &misfortune{calls[c.Rand.IntN(len(calls))], fates[c.Rand.IntN(len(fates))], c.Rand.IntN(3), 1 + c.Rand.IntN(6)}
		c.faults = append(c.faults, m)
		c.Tell("fault: %+v", *m)
	}
}

// round lends some, rotates, revokes, and lets time pass. It runs in a bubble.
func (c *chaos) round() {
	c.breakDatabase()
	c.Arm()
	var all sync.WaitGroup
	for range 1 + c.Rand.IntN(3) {
		act := c.act()
		all.Go(act)
		if c.Rand.IntN(2) == 0 { // one after the other, or at once
			all.Wait()
		}
	}
	if c.Rand.IntN(5) == 0 {
		time.Sleep(c.UpTo(8 * time.Second))
		c.Kill(c.World)
	}
	all.Wait()
	for end := time.Now().Add(c.UpTo(2 * time.Minute)); time.Now().Before(end); time.Sleep(c.UpTo(20*time.Second) + time.Millisecond) {
		if c.Down() {
			c.Reboot(c.t, c.World)
			c.known()
		}
		c.read("svc")
		c.read("pair")
	}
	if c.Down() {
		c.Reboot(c.t, c.World)
		c.known()
	}
}

// act returns something that a user might do.
func (c *chaos) act() func() {
	role := []string{"short", "long", "slow", "bad"}[c.Rand.IntN(4)]
	switch n := c.Rand.IntN(12); {
	case n < 6:
		return func() {
			a, err := c.Do(route.Read, "creds/"+role, nil)
			if err != nil {
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lent[a.Lease.ID] = true
		}
	case n < 8:
		return func() {
			for id := range c.Leases.Below(context.Background(), "") {
				err := c.Revoke(id)
				c.mu.Lock()
				delete(c.lent, id)
				c.mu.Unlock()
				c.Tell("revoke %s: %v", id, err)
				return
			}
		}
	case n < 9:
		return func() {
			for id := range c.Leases.Below(context.Background(), "") {
				_, err := c.Renew(id, 30*time.Second)
				c.Tell("renew %s: %v", id, err)
				return
			}
		}
	}
	path := []string{"rotate-role/svc", "rotate-role/pair", "rotate-root/prod"}[c.Rand.IntN(3)]
	return func() {
		_, err := c.Do(route.Write, path, nil)
		c.Tell("%s: %v", path, err)
	}
}

// read reads a static role: what is given out without a warning is the user's password. Of a pair, what was given out before is, too.
func (c *chaos) read(role string) {
	var user, password string
	for range 3 { // it may change between reading and looking
		a, err := c.Do(route.Read, "static-creds/"+role, nil)
		if err != nil || len(a.Warnings) > 0 {
			return
		}
		user, password = a.Data["username"].(string), a.Data["password"].(string)
		if c.fake.Has(user, password) {
			c.reads++
			c.last[role] = user + " " + password
			return
		}
	}
	if !c.Down() {
		c.t.Errorf("%s was given %s of %s, which is not its password", role, password, user)
		c.Tell("a reader of %s was given a password of %s that is not in force", role, user)
	}
}

// known: right after a crash, too, a lease knows each user, and what a client was given is there.
func (c *chaos) known() {
	users := c.lentUsers()
	leases := map[string]bool{}
	for _, id := range c.IDs(c.t) {
		l, err := c.Leases.Lookup(context.Background(), id)
		if err != nil {
			continue // it has ended meanwhile
		}
		var of struct {
			User string `json:"u"`
		}
		if err := json.Unmarshal(l.Data, &of); err != nil {
			c.t.Fatal(err)
		}
		leases[of.User] = true
		c.mu.Lock()
		given := c.lent[id]
		c.mu.Unlock()
		if given && time.Until(l.Expires) > 0 && !slices.Contains(c.lentUsers(), of.User) {
			c.t.Errorf("lease %s was given out and has no user", id)
		}
	}
	for _, name := range users {
		if !leases[name] && slices.Contains(c.lentUsers(), name) {
			c.t.Errorf("no lease knows %s", name)
		}
	}
}

// lentUsers are the users in the database that people have not made.
func (c *chaos) lentUsers() []string {
	return slices.DeleteFunc(c.fake.Users(), func(name string) bool { return !strings.HasPrefix(name, "v-") })
}

// calm ends all misfortune, and lets the longest wait between two tries pass, and that of a create that may come. It runs in a bubble.
func (c *chaos) calm() {
	c.mu.Lock()
	c.faults = nil
	c.mu.Unlock()
	c.Reboot(c.t, c.World)
	c.Tell("calm")
	c.known()
	c.Must(c.t, route.Write, "roles/bad", with(ro, fields{"default_ttl": "10s", "max_ttl": "1m"}))
	time.Sleep(3 * time.Hour)
	synctest.Wait()
}

// judge: the database is well, and time has passed.
func (c *chaos) judge() {
	if ids, users := c.IDs(c.t), c.lentUsers(); len(ids) != 0 || len(users) != 0 {
		c.t.Errorf("leases %q and users %q are left", ids, users)
	}
	for _, role := range []string{"svc", "pair"} {
		c.given(role)
		if a := c.Must(c.t, route.Read, "static-roles/"+role, nil); a.Data["failures"] != nil || a.Data["last_error"] != nil {
			c.t.Errorf("at the end: %s", a.Text)
		}
		c.Must(c.t, route.Write, "rotate-role/"+role, nil)
		c.given(role)
	}
	if a := c.Must(c.t, route.Read, "config/prod", nil); a.Data["last_root_error"] != nil && a.Data["next_root_rotation"] != nil {
		c.t.Errorf("at the end: %s", a.Text) // of one on request, whoever asked was told
	}
	c.Must(c.t, route.Write, "rotate-root/prod", nil)
	if a := c.Must(c.t, route.Read, "config/prod", nil); a.Data["last_root_error"] != nil {
		c.t.Errorf("after a rotation: %s", a.Text)
	}
	_, _, id := c.lend("long")
	if err := c.Revoke(id); err != nil || len(c.lentUsers()) != 0 {
		c.t.Errorf("revoking: %v, %q are left", err, c.lentUsers())
	}
	if n := c.Work(c.t); n > 3 {
		c.t.Errorf("%d due items are left, of two static roles and a connection", n)
	}
}

// TestCrashes: whatever the database does, and whenever the process dies, there is in the end no user that no lease knows, no lease
// without a user, and nothing left to do; readers of static roles are given passwords that work, and the administrator's is known.
func TestCrashes(t *testing.T) {
	runs := *crashes
	if testing.Short() || raceDetector {
		runs = min(runs, 15)
	}
	var deaths, reads atomic.Int64
	t.Cleanup(func() { // after all seeds
		if runs >= 15 && (deaths.Load() < int64(runs)/2 || reads.Load() < int64(runs)) {
			t.Errorf("the process died %d times in %d runs, and %d reads of static roles were judged", deaths.Load(), runs, reads.Load())
		}
	})
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := play(t, seed)
				deaths.Add(int64(c.Deaths()))
				reads.Add(int64(c.reads))
			})
		})
	}
}

// TestLoginsThatFailMakeNothingAnew: a password was set, and then no login can be tried for a while. It is the one that is proven and
// given out in the end: another in its place would leave the database with one that nobody has.
func TestLoginsThatFailMakeNothingAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var away atomic.Bool
		w := &world{t: t, fake: new(databasetest.Fake), log: new(syncBuffer), fate: func(call string) databasetest.Fate {
			if call == "login" && away.Load() {
				return databasetest.Before
			}
			return databasetest.Well
		}}
		w.open(enginetest.Config{})
		w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
		w.fake.AddUser("svc", oldPassword)
		w.Must(t, route.Write, "static-roles/svc", with(svc, fields{"rotation_period": "24h"}))
		var mu sync.Mutex
		sent := map[string]bool{}
		w.setRules(func(_, password string) error { mu.Lock(); defer mu.Unlock(); sent[password] = true; return nil })
		away.Store(true)
		if _, err := w.Do(route.Write, "rotate-role/svc", nil); err == nil {
			t.Error("a rotation without a login succeeded")
		}
		time.Sleep(time.Hour)
		if a := w.Must(t, route.Read, "static-creds/svc", nil); len(a.Warnings) != 1 {
			t.Errorf("nothing warns a reader that the password may be another: %q", a.Warnings)
		}
		away.Store(false)
		time.Sleep(2 * time.Hour)
		_, password := w.given("svc")
		mu.Lock()
		defer mu.Unlock()
		if len(sent) != 1 || !sent[password] {
			t.Errorf("%d passwords were sent, and what is given out is one of them: %v", len(sent), sent[password])
		}
	})
}
