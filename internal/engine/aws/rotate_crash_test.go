package aws_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// havoc is one seeded run: users are lent, a static role and the root key are rotated,
// while the process dies at commits and between them, and AWS fails in every way. It runs in a bubble.
type havoc struct {
	*world
	rng   *rand.Rand
	seed  uint64
	store *faulty.Store
	calm  atomic.Bool // no more deaths

	open sync.RWMutex // held for writing while the process starts again

	mu            sync.Mutex // guards the rest
	story         []string
	uses, refused int
}

func (c *havoc) tell(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.story = append(c.story, time.Now().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (c *havoc) upTo(d time.Duration) time.Duration { return time.Duration(c.rng.Int64N(int64(d))) }

// breakAWS orders some faults.
func (c *havoc) breakAWS() {
	actions := []string{
		"CreateUser", "CreateUser", "CreateAccessKey", "CreateAccessKey", "CreateAccessKey", "AttachUserPolicy", "AddUserToGroup", "ListAccessKeys",
		"DeleteAccessKey", "UpdateAccessKey", "GetAccessKeyLastUsed", "GetCallerIdentity", "DeleteUser", "ListGroupsForUser", "RemoveUserFromGroup", "",
	}
	modes := []awstest.Mode{awstest.Before, awstest.Lost, awstest.Throttle, awstest.Malformed, awstest.Slow, awstest.Late, awstest.Late}
	for range c.rng.IntN(4) {
		f := awstest.Fault{Action: actions[c.rng.IntN(len(actions))], Mode: modes[c.rng.IntN(len(modes))], Times: 1 + c.rng.IntN(3), Skip: c.rng.IntN(2)}
		if f.Mode == awstest.Slow {
			f.Wait = c.upTo(20 * time.Second)
		} else {
			f.Wait = c.upTo(6 * time.Minute)
		}
		c.aws.Inject(f)
		c.tell("fault: %+v", f)
	}
}

// dieSoon kills the process at one of the next commits, or some time later.
func (c *havoc) dieSoon() {
	mode := []faulty.Mode{faulty.NotStored, faulty.Stored}[c.rng.IntN(2)]
	switch c.rng.IntN(4) {
	case 0, 1:
		c.store.CrashAfter(c.rng.IntN(12), mode)
	case 2:
		time.AfterFunc(c.upTo(5*time.Minute), func() {
			if !c.calm.Load() {
				c.store.CrashAfter(0, mode)
			}
		})
	}
}

// act does something that a user might do.
func (c *havoc) act() {
	var err error
	what := "lend"
	switch n := c.rng.IntN(20); {
	case n < 11:
		_, err = c.Do(route.Write, "creds/r", nil)
	case n < 14:
		what = "rotate-role"
		_, err = c.Do(route.Write, "rotate-role/svc", nil)
	case n < 16:
		what = "rotate-root"
		_, err = c.Do(route.Write, "config/rotate-root", nil)
	case n < 17:
		what = "write"
		_, err = c.Do(route.Write, "static-roles/svc", fields{"rotation_period": fmt.Sprint(100+c.rng.IntN(50), "m")})
	default:
		what = "revoke"
		for id := range c.Leases.Below(c.t.Context(), "") {
			err = c.Revoke(id)
			break
		}
	}
	c.tell("%s: %v", what, err)
}

// again starts the process anew, if it has died. It runs in a bubble.
func (c *havoc) again() {
	select {
	case <-c.store.Crashed():
	default:
		return
	}
	c.Stop()
	time.Sleep(c.upTo(3 * time.Minute))
	c.open.Lock()
	defer c.open.Unlock()
	c.store.Revive()
	c.Reopen(c.t)
	c.tell("started again")
}

// consume reads the static role as its answers say, and uses the key all the time.
func (c *havoc) consume(ctx context.Context) {
	var id, secret string
	for ctx.Err() == nil {
		ttl := 5 * time.Second
		c.open.RLock()
		a, err := c.Do(route.Read, "static-creds/svc", nil)
		c.open.RUnlock()
		if err == nil {
			id, secret = a.Data["access_key"].(string), a.Data["secret_key"].(string)
			ttl = time.Duration(a.Data["ttl"].(float64)) * time.Second
		}
		c.use(id, secret)
		select {
		case <-time.After(ttl):
		case <-ctx.Done():
			return
		}
		c.use(id, secret)
	}
}

func (c *havoc) use(id, secret string) {
	if id == "" {
		return
	}
	works := c.aws.Works(id, secret)
	c.aws.Use(id)
	c.mu.Lock()
	c.uses++
	if !works {
		c.refused++
	}
	c.mu.Unlock()
	if !works {
		c.tell("the reader of the static role was refused with %s", id)
	}
}

// known checks that each user at AWS is in a lease.
func (c *havoc) known() {
	c.t.Helper()
	known := map[string]bool{"svc": true, "person": true}
	for id := range c.Leases.Below(context.Background(), "") {
		l, err := c.Leases.Lookup(context.Background(), id)
		if err != nil {
			continue
		}
		var d struct {
			User string `json:"u"`
		}
		if err := json.Unmarshal(l.Data, &d); err != nil {
			c.t.Error(err)
		}
		known[d.User] = true
	}
	for _, u := range c.users() {
		if !known[u] {
			c.t.Errorf("no lease knows user %s", u)
			c.tell("no lease knows user %s", u)
		}
	}
}

// play runs one seed, in a bubble.
func (c *havoc) play() {
	defer func() {
		if c.t.Failed() {
			for _, line := range c.story[max(0, len(c.story)-100):] {
				c.t.Log(line)
			}
			c.t.Logf("seed %d", c.seed)
		}
	}()
	foreign, theirs := c.setUp()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.consume(ctx) }()
	for end := time.Now().Add(4 * time.Hour); time.Now().Before(end); {
		c.breakAWS()
		c.dieSoon()
		for range 1 + c.rng.IntN(3) {
			c.act()
			c.again()
		}
		for end := time.Now().Add(c.upTo(20 * time.Minute)); time.Now().Before(end); {
			time.Sleep(20 * time.Second)
			c.again()
		}
		c.known()
	}
	c.calm.Store(true)
	c.aws.Clear()
	c.Stop()
	c.store.Revive()
	c.open.Lock()
	c.Reopen(c.t)
	c.open.Unlock()
	c.tell("calm")
	time.Sleep(4 * time.Hour)
	stop()
	<-done
	c.judge(foreign, theirs)
}

// setUp makes what is there before: a user of a person's, the static role's user, perhaps with a key.
func (c *havoc) setUp() (foreign string, theirs []string) {
	c.aws.AddGroup(awstest.Account, "devs")
	c.aws.AddUser(awstest.Account, "person")
	foreign, _ = c.aws.AddKey(awstest.Account, "person")
	c.aws.AddUser(awstest.Account, "svc")
	if c.rng.IntN(2) == 0 {
		id, _ := c.aws.AddKey(awstest.Account, "svc")
		theirs = append(theirs, id)
	}
	c.Must(c.t, route.Write, "config/root", fields{"propagation_checks": 2, "propagation_settle": "1s"})
	if c.rng.IntN(2) == 0 {
		c.Must(c.t, route.Write, "config/root", fields{"rotation_period": fmt.Sprint(20+c.rng.IntN(60), "m")})
	}
	c.Must(c.t, route.Write, "roles/r", with(deploy, fields{"iam_groups": "devs", "default_ttl": fmt.Sprint(1+c.rng.IntN(20), "m"), "max_ttl": "1h"}))
	c.Must(c.t, route.Write, "static-roles/svc", fields{"username": "svc", "rotation_period": "100m", "grace_period": "20m"})
	return foreign, theirs
}

// judge looks at what is left in the end. It runs in a bubble.
func (c *havoc) judge(foreign string, theirs []string) {
	for _, path := range []string{"config/root", "static-roles/svc"} {
		c.Must(c.t, route.Write, path, fields{"disable_automated_rotation": true})
	}
	time.Sleep(time.Hour) // a rotation may be under way, and its grace period of 20 minutes; both end well before
	c.known()
	if got := c.users(); !slices.Equal(got, []string{"person", "svc"}) {
		c.t.Errorf("users %q are left; leases %q", got, c.IDs(c.t))
	}
	if ids := c.IDs(c.t); len(ids) != 0 {
		c.t.Errorf("leases %q are left", ids)
	}
	if keys := c.aws.Keys(awstest.Account, "person"); len(keys) != 1 || keys[0].ID != foreign {
		c.t.Errorf("somebody else's keys are %+v", keys)
	}
	id, _ := c.given("svc")
	a := c.Must(c.t, route.Read, "static-roles/svc", nil)
	for _, k := range c.aws.Keys(awstest.Account, "svc") {
		if k.ID != id && k.ID != a.Data["previous_access_key"] {
			c.t.Errorf("key %+v is not in the role: %s; from before are %q", k, a.Text, theirs)
		}
	}
	if a.Data["failures"] != nil || a.Data["last_error"] != nil {
		c.t.Errorf("at the end: %s", a.Text)
	}
	if c.refused != 0 || c.uses < 50 {
		c.t.Errorf("%d of %d uses were refused", c.refused, c.uses)
	}
	root := c.Must(c.t, route.Read, "config/root", nil)
	if keys := c.aws.Keys(awstest.Account, awstest.Admin); len(keys) != 1 || keys[0].ID != root.Data["access_key"] || root.Data["last_root_error"] != nil {
		c.t.Errorf("keys of the root user: %+v; config/root: %s", keys, root.Text)
	}
	c.lend("creds/r", nil)
	c.Must(c.t, route.Write, "config/rotate-root", nil)
}

// TestCrashesRotating: after many deaths and failures no user is left that no lease knows, no key of a static
// role or of config/root is lost, and none that somebody else has made is touched.
func TestCrashesRotating(t *testing.T) {
	runs := *crashes / 5 // each lives through days
	if testing.Short() || raceDetector {
		runs = min(runs, 10)
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 2))
				store := faulty.New(memory.Open(), seed)
				lag := func() time.Duration { return time.Duration(rng.Int64N(int64(8 * time.Second))) }
				w := open(t, awstest.Options{KeyLag: lag(), ListLag: lag(), DeadLag: lag(), UsedLag: lag()}, enginetest.Config{Store: store})
				(&havoc{world: w, rng: rng, seed: seed, store: store}).play()
			})
		})
	}
}
