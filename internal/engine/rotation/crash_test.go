package rotation_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// chaos is one seeded run: a key turns while its process is killed before,
// between and after its calls and commits, and while these fail in every way.
type chaos struct {
	*world
	rng   *rand.Rand
	seed  uint64
	kills int
	wild  bool // faults and kills may strike
	story []string

	consumed, refused int
}

var errKilled = errors.New("the process was killed")

func (c *chaos) tell(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.story = append(c.story, time.Now().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// strike is the world's hook.
func (c *chaos) strike(what string, before bool) error {
	if c.ctx.Err() != nil {
		return errKilled // the dead do nothing
	}
	c.tell("%s %v", what, before)
	if !c.wild {
		return nil
	}
	switch n := c.rng.IntN(100); {
	case n < 4 && c.kills > 0:
		c.kills--
		c.tell("killed at %s, before=%v", what, before)
		c.cancel()
		return errKilled
	case n < 6 && what == "commit":
		return fmt.Errorf("%w: asked for", storage.ErrFull)
	case n < 6 && (what == "publish" || what == "audit" && before):
		return fault.New("chaos", fault.Unavailable, "asked for")
	}
	return nil
}

// breakVendor orders some faults.
func (c *chaos) breakVendor() {
	calls := []rotationtest.Call{rotationtest.Create, rotationtest.Create, rotationtest.List, rotationtest.LastUsed, rotationtest.Disable, rotationtest.Retire, rotationtest.Verify}
	faults := []rotationtest.Fault{
		rotationtest.Busy, rotationtest.Broken, rotationtest.CutBefore, rotationtest.CutAfter, rotationtest.Hang, rotationtest.Late, rotationtest.Lag,
	}
	for range c.rng.IntN(5) {
		call, fault := calls[c.rng.IntN(len(calls))], faults[c.rng.IntN(len(faults))]
		for range 1 + c.rng.IntN(3) {
			rotationtest.Breaker(c.vendor, time.Duration(c.rng.Int64N(int64(rotationtest.FakeLate))))(call, fault)
		}
		c.tell("fault: %s %s", call, fault)
	}
}

// killLater kills the process at some moment, also in the middle of a call that hangs.
func (c *chaos) killLater() {
	if c.kills == 0 || c.rng.IntN(3) > 0 {
		return
	}
	c.kills--
	cancel := c.cancel
	time.AfterFunc(time.Duration(c.rng.Int64N(int64(10*time.Minute))), cancel)
}

// act does something that a user might do.
func (c *chaos) act() {
	path := "keys/demo/" + []string{"rotate", "rotate", "rollback", "pause", "resume", "resume"}[c.rng.IntN(6)]
	_, err := c.do(route.Write, path, map[string]any{})
	c.tell("user: %s: %v", path, err)
}

// consume reads the key as its hints say and uses it all the time: when it was
// read, and when it is about to be read again. It runs in a bubble.
func (c *chaos) consume(ctx context.Context) {
	for ctx.Err() == nil {
		at := c.kv.read("secret/demo", time.Now())
		c.use(ctx, at.fields["api_key"])
		select {
		case <-time.After(at.ttl):
		case <-ctx.Done():
			return
		}
		c.use(ctx, at.fields["api_key"])
	}
}

func (c *chaos) use(ctx context.Context, key string) {
	if key == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Millisecond) // some calls hang
	defer cancel()
	_, err := c.vendor.Use(ctx, key)
	c.consumed++
	if err != nil && contains(err.Error(), "refused") {
		c.refused++
		c.tell("a consumer was refused with key %s", c.idOf(key))
	}
}

// play runs one seed, in a bubble.
func (c *chaos) play() {
	defer func() {
		if c.Failed() {
			for _, line := range c.story[max(0, len(c.story)-120):] {
				c.Log(line)
			}
			c.Logf("seed %d", c.seed)
		}
	}()
	foreign, _ := c.vendor.Create(context.Background(), adminToken, "somebody else's")
	c.setUp()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); c.consume(ctx) }()
	var once sync.Once
	rest := func() { once.Do(func() { stop(); <-done }) }
	defer rest()

	c.wild = true
	c.hook = c.strike
	for end := time.Now().Add(3 * time.Hour); time.Now().Before(end); {
		c.breakVendor()
		c.killLater()
		if c.rng.IntN(4) == 0 {
			c.act()
		}
		c.run(time.Now().Add(time.Duration(c.rng.Int64N(int64(40*time.Minute)))), never)
		if c.ctx.Err() != nil {
			nap(time.Duration(c.rng.Int64N(int64(3 * time.Minute))))
			c.boot()
			c.tell("booted")
		}
	}
	c.calm()
	rest()
	c.judge(foreign.ID)
}

func (c *chaos) setUp() {
	c.kv.write("secret/demo", map[string]string{"note": "mine"})
	more := map[string]any{"rotation_period": "100m", "grace_period": "20m", "read_ttl": 30 + c.rng.IntN(60), "idle_period": "5m", "settle_timeout": "3m"}
	if c.rng.IntN(3) == 0 {
		theirs, _ := c.vendor.Create(context.Background(), adminToken, "by hand")
		c.kv.write("secret/demo", map[string]string{"api_key": theirs.Secret})
		more["current_key_id"], more["current_secret"] = theirs.ID, map[string]string{"api_key": theirs.Secret}
	}
	nap(time.Minute) // what was made by hand is live
	c.must(route.Write, "keys/demo", basic(more))
}

// calm lets everything heal and end.
func (c *chaos) calm() {
	c.wild = false
	c.vendor.Heal()
	c.tell("calm")
	nap(time.Minute)
	c.cancel()
	c.boot()
	c.must(route.Write, "keys/demo/resume", nil)
	for range 3 { // what is in flight, what had failed, and one that goes well
		c.after(time.Hour)
		c.until(rotate.Scheduled)
		c.must(route.Write, "keys/demo/rotate", nil)
	}
	c.until(rotate.Grace)
	c.until(rotate.Scheduled)
}

func (c *chaos) judge(foreign string) {
	c.Helper()
	if n := c.vendor.Stats().Pending; n != 0 {
		c.Errorf("%d effects have not landed", n)
	}
	current := c.status()["current_key_id"].(string)
	c.live(foreign, current)
	if got := c.idOf(c.value()); got != current {
		c.Errorf("published is %s, current %s", got, current)
	}
	if c.refused != 0 || c.consumed < 100 {
		c.Errorf("%d of %d uses were refused", c.refused, c.consumed)
	}
	s := c.status()
	if s["alert"] != "" || s["last_error"] != "" || s["overdue"] != false || s["turn"].(float64) < 3 {
		c.Errorf("at the end: %v", s)
	}
	c.silent()
}

// crashes is how many seeds are played. A thousand take half a minute on two cores.
var crashes = flag.Uint64("crashes", 300, "how many seeds TestCrashes plays")

func TestCrashes(t *testing.T) {
	runs := *crashes
	if testing.Short() || raceDetector {
		runs = min(runs, 60)
	}
	for seed := range runs {
		crash(t, seed)
	}
}

func crash(t *testing.T, seed uint64) {
	t.Run(fmt.Sprint(seed), func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t, rotationtest.VendorConfig{
				ActiveAfter: time.Duration(rng.Int64N(int64(20 * time.Second))), DeadAfter: time.Duration(rng.Int64N(int64(20 * time.Second))),
			})
			(&chaos{world: w, rng: rng, seed: seed, kills: 3 + rng.IntN(10)}).play()
		})
	})
}
