package rotation_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// chaos is a key that rotates at a vendor, published to a path that people write to.
type chaos struct {
	*rotatetest.Harness
	worlds  [2]*enginetest.World
	vendor  *rotationtest.Vendor
	kv      *fakeKV
	foreign string // somebody else's key

	mu     sync.Mutex      // guards the rest
	read   map[string]bool // values that readers were given
	dead   map[int]bool    // versions of the path that people have written, and whose value does not work
	leaked map[string]bool // values that a user has said to have leaked
	asking int             // requests that say so and have not returned
	record storage.Version // of the record that leaking read last
	leaks  bool            // what it found there
}

func newChaos(h *rotatetest.Harness) rotatetest.Subject {
	return &chaos{
		Harness: h, kv: &fakeKV{paths: map[string]*kvPath{}}, read: map[string]bool{}, dead: map[int]bool{},
		leaked: map[string]bool{},
		vendor: rotationtest.NewVendor(
			rotationtest.VendorConfig{AdminToken: adminToken, ActiveAfter: h.UpTo(20 * time.Second),
				DeadAfter: h.UpTo(20 * time.Second)}),
	}
}

// Open opens the mount.
func (c *chaos) Open(server int, store storage.Store) {
	if w := c.worlds[server]; w != nil {
		w.Reopen(c.T)
		return
	}
	fake := rotationtest.Fake(c.vendor)
	open := fake.Open
	fake.Open = func(o rotation.OpenConfig) (rotation.Source, error) {
		s, err := open(o)
		return &hookedSource{s, func(what, id string, call func() error) (err error) {
			if died := c.Call(server, rotatetest.Call{What: what, ID: id}, func() { err = call() }); died != nil {
				return died
			}
			return err
		}}, err
	}
	var w *enginetest.World
	attach := func(h *engine.Host) {
		c.kv.attach(h, func() *enginetest.World { return w })
		h.Publish = func(_ context.Context, p engine.Publication) (n int, err error) {
			if err := c.Refuse(server, "publishing"); err != nil {
				return 0, err
			}
			if died := c.Call(server, rotatetest.Call{What: "publish", ID: p.Turn},
				func() { n, err = c.kv.publish(context.Background(), p, c.Barrier().View("")) }); died != nil {
				return 0, died
			}
			return n, err
		}
		h.Audited = func(ctx context.Context, _ engine.Automatic, act func(context.Context) error) error {
			if err := c.Refuse(server, "the audit log"); err != nil {
				return err
			}
			return act(ctx)
		}
	}
	w = enginetest.Open(c.T, rotation.New(fake), enginetest.Config{Store: store, Host: attach})
	c.worlds[server] = w
}

// Stop ends a server.
func (c *chaos) Stop(server int) { c.worlds[server].Stop() }

// Begin configures a key with the recipe, and perhaps one before it that a person created. It runs
// in a bubble.
func (c *chaos) Begin() {
	foreign, _ := c.vendor.Create(c.Context(), adminToken, "somebody else's")
	c.foreign = foreign.ID
	c.kv.write("secret/demo", map[string]string{"note": "mine"})
	more := map[string]any{"rotation_period": "100m", "grace_period": "20m", "read_ttl": 30 + c.Rand.IntN(60),
		"idle_period": rotatetest.Pick(c.Harness, "1s", "5m"), "settle_timeout": "3m"}
	if c.Rand.IntN(3) == 0 {
		theirs, _ := c.vendor.Create(c.Context(), adminToken, "by hand")
		c.kv.write("secret/demo", map[string]string{"api_key": theirs.Secret})
		more["current_key_id"], more["current_secret"] = theirs.ID, map[string]string{"api_key": theirs.Secret}
	}
	time.Sleep(time.Minute) // the key created by hand is valid
	c.worlds[0].Must(c.T, route.Write, "keys/demo", basic(more))
}

// Break makes some of the vendor's calls fail.
func (c *chaos) Break() {
	calls := []string{"create", "create", "list", "get", "disable", "delete", "use"}
	for range c.Rand.IntN(5) {
		f := rotationtest.VendorFault{Call: rotationtest.VendorCall(rotatetest.Pick(c.Harness, calls...)),
			Times: 1 + c.Rand.IntN(3)}
		kind := rotatetest.Pick(c.Harness, "before", "before", "after", "hang", "late", "lag", "lie", "busy")
		switch kind {
		case "lie":
			f.Call = rotatetest.Pick(c.Harness, rotationtest.VendorCall("delete"), "disable")
		case "lag":
			f.Call, f.Delay = "list", time.Hour
		case "late":
			f.Delay = c.UpTo(rotationtest.FakeLate)
		}
		rotationtest.Inject(c.vendor, f, kind)
		c.Note("the vendor fails: %s %s", kind, f.Call)
	}
}

// Heal ends the failures.
func (c *chaos) Heal() { c.vendor.Heal() }

// Act is a request, or a write to the path.
func (c *chaos) Act(server int) (string, func() error) {
	ask := func(op route.Op, path string, body any) (string, func() error) {
		return path, func() error { _, err := c.worlds[server].Do(op, path, body); return err }
	}
	switch c.Rand.IntN(16) {
	case 0, 1, 2, 3:
		return ask(route.Write, "keys/demo/rotate", map[string]any{})
	case 4, 5:
		return ask(route.Write, "keys/demo/rollback", map[string]any{})
	case 6:
		return ask(route.Write, "keys/demo/pause", map[string]any{})
	case 7, 8, 9:
		return ask(route.Write, "keys/demo/resume", map[string]any{})
	case 10, 11:
		return ask(route.Patch, "keys/demo",
			map[string]any{"rotation_period": rotatetest.Pick(c.Harness, "80m", "100m", "2h"),
				"grace_period": rotatetest.Pick(c.Harness, "10m", "20m", "30m")})
	case 12:
		return ask(route.Patch, "keys/demo", map[string]any{"admin": map[string]string{"token": adminToken}})
	case 13:
		return "leaked", func() error {
			c.mu.Lock()
			maps.Copy(c.leaked, c.read)
			c.leaked[c.kv.read("secret/demo", time.Now()).fields["api_key"]] = true // somebody may be reading it
			c.asking++
			c.mu.Unlock()
			defer func() {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.asking--
			}()
			_, err := c.worlds[server].Do(route.Write, "keys/demo/rotate", map[string]any{"leaked": true})
			return err
		}
	}
	n := c.Rand.IntN(4)
	return "a write by hand", func() error { c.overwrite(n); return nil }
}

const nonsense = "nonsense"

// overwrite writes to the path: a value that was read before and is valid, nonsense, nothing, or a
// field beside the key.
func (c *chaos) overwrite(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fields := maps.Clone(c.kv.read("secret/demo", time.Now()).fields)
	switch n {
	case 0:
		for _, k := range c.vendor.Live() {
			if c.read[k.Secret] && c.vendor.Stats().Pending == 0 {
				fields["api_key"] = k.Secret
				break
			}
		}
	case 1:
		fields["api_key"] = nonsense
	case 2:
		fields = map[string]string{}
	default:
		fields["note"] = "written"
	}
	was := c.kv.read("secret/demo", time.Now())
	c.kv.write("secret/demo", fields)
	now := c.kv.read("secret/demo", time.Now())
	c.dead[now.version] = n == 1 || n == 2 || n == 3 && c.dead[was.version]
	c.Note("somebody writes to the path: %q is %s", fields["api_key"], c.idOf(fields["api_key"]))
}

func (c *chaos) idOf(value string) string { return (&world{vendor: c.vendor}).idOf(value) }

// Readers read the path as its hints say.
func (c *chaos) Readers() []rotatetest.Reader {
	return []rotatetest.Reader{{
		Name: "a reader of the path", Lasts: true,
		Read: func(server int) (string, time.Duration, bool) {
			leaking := c.leaking(server)
			at := c.kv.read("secret/demo", time.Now())
			c.mu.Lock()
			defer c.mu.Unlock()
			value := at.fields["api_key"]
			if value == "" || value == nonsense || c.dead[at.version] {
				return "", 0, false
			}
			c.read[value] = true
			c.leaked[value] = c.leaked[value] || leaking
			return value, at.ttl, true
		},
		Works: func(value string) bool {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond) // some calls hang
			defer cancel()
			_, err := c.vendor.Use(ctx, value)
			c.mu.Lock()
			defer c.mu.Unlock()
			return err == nil || !contains(err.Error(), "refused") || c.leaked[value]
		},
	}}
}

// leaking reports whether what is published may be retired without a grace: a rotation of a
// leaked key waits or is in flight, or that is not known.
func (c *chaos) leaking(server int) bool {
	c.mu.Lock()
	asking := c.asking > 0
	c.mu.Unlock()
	if asking {
		return true
	}
	row, err := c.Barrier().View(mount).Get(context.Background(), "k/demo")
	if err != nil {
		return true
	}
	c.mu.Lock()
	same, leaks := row.Version == c.record, c.leaks
	c.mu.Unlock()
	if same {
		return leaks
	}
	r, _, err := c.worlds[server].Engine.(engine.Rotator).Rotations().Read(context.Background(), "key", "demo")
	if err != nil || r == nil {
		return true
	}
	leaks = r.Queued != nil && r.Queued.Leaked || r.Turn != nil && r.Turn.Start.Leaked
	if now, err := c.Barrier().View(mount).Get(context.Background(), "k/demo"); err == nil &&
		now.Version == row.Version {
		c.mu.Lock()
		c.record, c.leaks = row.Version, leaks
		c.mu.Unlock()
	}
	return leaks
}

// Check adds nothing to the checks of the harness.
func (c *chaos) Check(int) {}

// Repair lets rotations in flight and failed ones end, and then makes one that succeeds. It
// runs in a bubble.
func (c *chaos) Repair() {
	w := c.worlds[0]
	status := func() map[string]any { return w.Must(c.T, route.Read, "keys/demo", nil).Data }
	until := func(want string) {
		for range 24 * 60 {
			s := status()
			if s["paused"] == true {
				w.Must(c.T, route.Write, "keys/demo/resume", nil)
			}
			if s["state"] == want {
				return
			}
			// as it says: publish another one
			if alert, _ := s["alert"].(string); contains(alert, "the published secret holds the ") {
				c.Note("somebody heeds %q", alert)
				for _, k := range c.vendor.Live() {
					if k.ID == s["current_key_id"] {
						c.kv.write("secret/demo", map[string]string{"api_key": k.Secret})
					}
				}
			}
			time.Sleep(time.Minute)
		}
		c.Fatalf("the key never came to %s: %v", want, status())
	}
	for range 3 {
		until("scheduled")
		if _, err := w.Do(route.Write, "keys/demo/rotate", map[string]any{}); err != nil &&
			!fault.Is(err, fault.Conflict) { // one began by itself
			c.Error(err)
		}
		time.Sleep(time.Hour)
	}
	until("scheduled")
}

// Live returns the valid keys, except those of others.
func (c *chaos) Live() (out []rotatetest.Live) {
	for _, k := range c.vendor.Live() {
		if k.ID != c.foreign {
			out = append(out, rotatetest.Live{ID: k.ID, Label: k.Label})
		}
	}
	if len(out) == len(c.vendor.Live()) {
		c.Error("somebody else's key is gone")
	}
	return out
}

// Shown returns answers and events.
func (c *chaos) Shown() (string, []string) {
	secrets := []string{adminToken}
	for _, k := range c.vendor.Issued() {
		secrets = append(secrets, k.Secret)
	}
	var text string
	for _, path := range []string{"keys/demo", "keys/demo/history", "keys/demo/plan"} {
		text += c.worlds[0].Must(c.T, route.Read, path, nil).Text
	}
	for _, w := range c.worlds {
		if w != nil {
			for _, e := range w.Events() {
				text += e + "\n"
			}
		}
	}
	return text, secrets
}

const mount = "mount/" + enginetest.UUID + "/"

func TestCrashes(t *testing.T) {
	rotatetest.Play(t, 150, rotatetest.Plan{
		Subject: newChaos,
		Rows: []rotatetest.Rows{{Records: mount + "k/", Secrets: mount + "s/", History: mount + "h/",
			Journal: mount + "j/"}},
		Length: 3 * time.Hour, Round: 40 * time.Minute, Recovery: time.Hour, Uses: 100,
	})
}
