package aws_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/route"
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
	*enginetest.Chaos

	mu   sync.Mutex      // guards lent
	lent map[string]bool // the leases that a client was given and has not revoked
}

// breakAWS orders some faults.
func (c *chaos) breakAWS() {
	modes := []awstest.Mode{awstest.Before, awstest.Lost, awstest.Throttle, awstest.Malformed, awstest.Slow, awstest.Late, awstest.Denied}
	c.aws.Clear()
	for range c.Rand.IntN(4) {
		f := awstest.Fault{
			Action: calls[c.Rand.IntN(len(calls))], Mode: modes[c.Rand.IntN(len(modes))], Skip: c.Rand.IntN(3), Times: 1 + c.Rand.IntN(6), Wait: c.UpTo(90 * time.Second),
		}
		c.aws.Inject(f)
		c.Tell("fault: %+v", f)
	}
}

// round lends some, revokes some, and lets time pass. It runs in a bubble.
func (c *chaos) round() {
	c.breakAWS()
	c.Arm()
	var all sync.WaitGroup
	for range 1 + c.Rand.IntN(2) {
		role := []string{"short", "full", "proven"}[c.Rand.IntN(3)]
		all.Go(func() {
			a, err := c.Do(route.Write, "creds/"+role, nil)
			if err != nil {
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.lent[a.Lease.ID] = true
		})
		if c.Rand.IntN(2) == 0 { // one after the other, or both at once
			all.Wait()
		}
	}
	if c.Rand.IntN(5) == 0 { // in the middle of whatever goes on
		time.Sleep(c.UpTo(8 * time.Second))
		c.Kill(c.World)
	}
	all.Wait()
	if c.Rand.IntN(3) == 0 && !c.Down() {
		c.revokeOne()
	}
	if c.Down() {
		c.Reboot(c.t, c.World)
	}
	time.Sleep(c.UpTo(40 * time.Second))
	if c.Down() {
		c.Reboot(c.t, c.World)
	}
}

func (c *chaos) revokeOne() {
	for id := range c.Leases.Below(context.Background(), "") {
		delete(c.lent, id)
		c.Tell("revoke %s: %v", id, c.Revoke(id))
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
	for range 2 + c.Rand.IntN(4) {
		c.round()
	}
	c.aws.Clear()
	c.Reboot(c.t, c.World)
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
	var deaths atomic.Int64
	t.Cleanup(func() { // after all seeds
		if runs >= 15 && deaths.Load() < int64(runs)/2 {
			t.Errorf("the process died %d times in %d runs", deaths.Load(), runs)
		}
	})
	for seed := range runs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { crash(t, seed, &deaths) })
		})
	}
}

func crash(t *testing.T, seed uint64, deaths *atomic.Int64) {
	c := &chaos{Chaos: enginetest.NewChaos(seed, 7), lent: map[string]bool{}}
	lag := awstest.Options{KeyLag: c.UpTo(20 * time.Second), ListLag: c.UpTo(20 * time.Second), DeadLag: c.UpTo(5 * time.Second)}
	c.world = open(t, lag, c.Config())
	c.aws.AddGroup(awstest.Account, "deployers")
	defer c.Print(t)
	c.play()
	deaths.Add(int64(c.Deaths()))
}
