package aws_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage/faulty"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// crashes is how many seeds are played. A thousand take two minutes on two cores.
var crashes = flag.Uint64("crashes", 60, "how many seeds TestCrashes plays")

// calls are the actions that lending and undoing make; "" is any.
var calls = []string{
	"", "CreateUser", "AttachUserPolicy", "AddUserToGroup", "PutUserPolicy", "CreateAccessKey", "CreateAccessKey", "GetCallerIdentity", "GetUser",
	"ListAccessKeys", "DeleteAccessKey", "ListAttachedUserPolicies", "DetachUserPolicy", "RemoveUserFromGroup", "DeleteUserPolicy", "DeleteUser",
}

// chaos is a world in which AWS fails, commits fail, and the process dies, by a seed.
type chaos struct {
	*world
	rng   *rand.Rand
	store *faulty.Store

	mu    sync.Mutex // guards the rest
	steps int        // at which step between calls the process dies; 0: none
	dead  bool       // the process is as good as dead
	story []string
	// lent are the leases that a client was given and has not revoked.
	lent map[string]bool
}

func (c *chaos) tell(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tellLocked(format, args...)
}

func (c *chaos) tellLocked(format string, args ...any) {
	c.story = append(c.story, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (c *chaos) upTo(d time.Duration) time.Duration { return time.Duration(c.rng.Int64N(int64(d))) }

// breakAWS orders some faults.
func (c *chaos) breakAWS() {
	modes := []awstest.Mode{awstest.Before, awstest.Lost, awstest.Throttle, awstest.Malformed, awstest.Slow, awstest.Late, awstest.Denied}
	c.aws.Clear()
	for range c.rng.IntN(4) {
		f := awstest.Fault{
			Action: calls[c.rng.IntN(len(calls))], Mode: modes[c.rng.IntN(len(modes))], Skip: c.rng.IntN(3), Times: 1 + c.rng.IntN(6), Wait: c.upTo(90 * time.Second),
		}
		c.aws.Inject(f)
		c.tell("fault: %+v", f)
	}
}

// between has the process die between steps of lending.
func (c *chaos) between(step string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.steps--; c.steps != 0 && !c.dead {
		return nil
	}
	c.dead = true
	c.tellLocked("dies when %s", step)
	return fault.New("test", fault.Unavailable, "the process has died")
}

// arm says when the process will die, if it does.
func (c *chaos) arm() {
	switch c.rng.IntN(4) {
	case 0:
		mode, n := []faulty.Mode{faulty.NotStored, faulty.Stored}[c.rng.IntN(2)], c.rng.IntN(8)
		c.store.CrashAfter(n, mode)
		c.tell("dies at commit %d, mode %d", n, mode)
	case 1:
		c.mu.Lock()
		c.steps = 1 + c.rng.IntN(3)
		c.mu.Unlock()
	case 2:
		mode := []faulty.Mode{faulty.NotStored, faulty.Stored}[c.rng.IntN(2)]
		c.store.Inject(faulty.Fault{Calls: faulty.Commits, After: c.rng.IntN(6), Mode: mode})
		c.tell("a commit fails, mode %d", mode)
	}
}

// reboot starts the process anew where it is dead, or anyway.
func (c *chaos) reboot() {
	c.Stop()
	c.store.Revive()
	c.store.Clear()
	c.mu.Lock()
	c.dead, c.steps = false, 0
	c.mu.Unlock()
	c.Reopen(c.t)
	c.tell("booted")
}

// round lends some, revokes some, and lets time pass. It runs in a bubble.
func (c *chaos) round() {
	c.breakAWS()
	c.arm()
	var all sync.WaitGroup
	for range 1 + c.rng.IntN(2) {
		role := []string{"short", "full", "proven"}[c.rng.IntN(3)]
		all.Go(func() {
			a, err := c.Do(route.Write, "creds/"+role, nil)
			if err != nil {
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lent[a.Lease.ID] = true
		})
		if c.rng.IntN(2) == 0 { // one after the other, or both at once
			all.Wait()
		}
	}
	if c.rng.IntN(5) == 0 { // in the middle of whatever goes on
		time.Sleep(c.upTo(8 * time.Second))
		c.mu.Lock()
		c.dead = true
		c.tellLocked("dies")
		c.mu.Unlock()
		c.Stop()
	}
	all.Wait()
	if c.rng.IntN(3) == 0 && !c.down() {
		c.revokeOne()
	}
	if c.down() {
		c.reboot()
	}
	time.Sleep(c.upTo(40 * time.Second))
	if c.down() {
		c.reboot()
	}
}

func (c *chaos) down() bool {
	select {
	case <-c.store.Crashed():
		return true
	default:
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

func (c *chaos) revokeOne() {
	for id := range c.Leases.Below(context.Background(), "") {
		delete(c.lent, id)
		c.tell("revoke %s: %v", id, c.Revoke(id))
		return
	}
}

// judge: AWS is well, and time has passed.
func (c *chaos) judge() {
	ids, users := c.IDs(c.t), c.users()
	if len(ids) != 0 || len(users) != 0 {
		c.t.Errorf("leases %q and users %q are left", ids, users)
	}
	for e, err := range c.View.Scan(context.Background(), "due/", "due0") {
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Errorf("due item %s is left", e.Key)
	}
	if keys := c.aws.Keys(awstest.Account, awstest.Admin); len(keys) != 1 {
		c.t.Errorf("the administrator's keys: %+v", keys)
	}
	a := c.lend("creds/proven", nil)
	if n := len(c.users()); n != 1 || !c.aws.Works(a.Data["access_key"].(string), a.Data["secret_key"].(string)) {
		c.t.Errorf("lending still goes: %d users", n)
	}
}

// play runs one seed, in a bubble.
func (c *chaos) play() {
	c.Must(c.t, route.Write, "roles/short", with(deploy, fields{"default_ttl": "5s", "max_ttl": "1m", "propagation_checks": 0}))
	c.Must(c.t, route.Write, "roles/full", with(deploy, fields{"default_ttl": "1m", "max_ttl": "5m", "propagation_checks": 0, "policy_document": document, "iam_groups": "deployers"}))
	c.Must(c.t, route.Write, "roles/proven", with(deploy, fields{"default_ttl": "30s", "max_ttl": "5m"}))
	for range 2 + c.rng.IntN(4) {
		c.round()
	}
	c.aws.Clear()
	c.reboot()
	c.knows()
	// An attempt, the life of its calls, and the longest wait between two tries.
	time.Sleep(2 * time.Hour)
	c.judge()
}

// knows: right after a crash, too, a lease knows each user, and what a client was given is there.
func (c *chaos) knows() {
	known := map[string]bool{}
	for _, id := range c.IDs(c.t) {
		l, err := c.Leases.Lookup(context.Background(), id)
		if err != nil {
			c.t.Fatal(err)
		}
		var of struct {
			User string `json:"u"`
		}
		if err := json.Unmarshal(l.Data, &of); err != nil {
			c.t.Fatal(err)
		}
		known[of.User] = true
		if _, there := c.aws.Held(awstest.Account, of.User); !there && c.lent[id] && time.Until(l.Expires) > 0 {
			c.t.Errorf("lease %s was given out and has no user", id)
		}
	}
	for _, name := range c.users() {
		if !known[name] {
			c.t.Errorf("no lease knows %s", name)
		}
	}
}

// TestCrashes: whatever AWS does, and whenever the process dies, there is no user in the end that no
// lease knows, no lease without a user, and nothing left to do.
func TestCrashes(t *testing.T) {
	runs := *crashes
	if testing.Short() || raceDetector {
		runs = min(runs, 15)
	}
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { crash(t, seed) })
		})
	}
}

func crash(t *testing.T, seed uint64) {
	c := &chaos{rng: rand.New(rand.NewPCG(seed, 7)), store: faulty.New(memory.Open(), seed), lent: map[string]bool{}}
	lag := awstest.Options{KeyLag: c.upTo(20 * time.Second), ListLag: c.upTo(20 * time.Second), DeadLag: c.upTo(5 * time.Second)}
	c.world = open(t, lag, enginetest.Config{Store: c.store, Between: c.between})
	c.aws.AddGroup(awstest.Account, "deployers")
	defer func() {
		if t.Failed() {
			for _, line := range c.story {
				t.Log(line)
			}
		}
	}()
	c.play()
}
