package aws_test

import (
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws"
	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// chaos is a static role and the key of config/root, which rotate while users are leased by that
// key.
type chaos struct {
	*rotatetest.Harness
	worlds  [2]*enginetest.World
	aws     *awstest.Server
	leased  *enginetest.Leased
	foreign string // somebody else's key

	mu     sync.Mutex // guards the rest
	secret []string
	last   string // what the reader of the static role was given
}

func newChaos(h *rotatetest.Harness) rotatetest.Subject {
	lags := awstest.Options{KeyLag: h.UpTo(20 * time.Second), ListLag: h.UpTo(20 * time.Second),
		DeadLag: h.UpTo(8 * time.Second), UsedLag: h.UpTo(8 * time.Second)}
	c := &chaos{Harness: h, aws: awstest.Start(h.T, lags), secret: []string{awstest.Secret}}
	c.leased = &enginetest.Leased{Barrier: c.Barrier, Users: c.users, Complain: h.NoteError}
	return c
}

// Open opens the mount.
func (c *chaos) Open(server int, store storage.Store) {
	if w := c.worlds[server]; w != nil {
		w.Reopen(c.T)
		return
	}
	dial := c.aws.Watched(c.T, func(form url.Values, call func()) error { return c.Call(server, outside(form), call) })
	c.worlds[server] = enginetest.Open(c.T, aws.Type, enginetest.Config{
		Store: store, Between: c.Between(server), Host: func(h *engine.Host) { h.Dial = dial },
	})
}

// outside is a call to AWS. Keys of users that are leased are no business of the rotations'.
func outside(form url.Values) rotatetest.Call {
	user := form.Get("UserName")
	rotates := user == "" || user == "svc" || user == awstest.Admin
	switch action := form.Get("Action"); {
	case !rotates:
		return rotatetest.Call{What: action}
	case action == "CreateAccessKey":
		return rotatetest.Call{What: "create"}
	case action == "DeleteAccessKey":
		return rotatetest.Call{What: "retire", ID: form.Get("AccessKeyId")}
	case action == "UpdateAccessKey" && form.Get("Status") == "Inactive":
		return rotatetest.Call{What: "disable", ID: form.Get("AccessKeyId")}
	default:
		return rotatetest.Call{What: action}
	}
}

// Stop ends a server.
func (c *chaos) Stop(server int) { c.worlds[server].Stop() }

// Begin configures the mount, beside a user of somebody else's. The static role's user perhaps has
// a key already.
func (c *chaos) Begin() {
	c.aws.AddGroup(awstest.Account, "deployers")
	c.aws.AddUser(awstest.Account, "person")
	c.foreign, _ = c.aws.AddKey(awstest.Account, "person")
	c.aws.AddUser(awstest.Account, "svc")
	if c.Rand.IntN(2) == 0 {
		c.aws.AddKey(awstest.Account, "svc")
	}
	must := func(path string, body fields) { c.worlds[0].Must(c.T, route.Write, path, body) }
	must("config/root", with(rootConfig, fields{"propagation_checks": 2, "propagation_settle": "1s"}))
	if c.Rand.IntN(2) == 0 {
		must("config/root", fields{"rotation_period": fmt.Sprint(20+c.Rand.IntN(60), "m")})
	}
	must("roles/short", with(deploy, fields{"default_ttl": "5s", "max_ttl": "1m", "propagation_checks": 0}))
	must("roles/full", with(deploy,
		fields{"default_ttl": fmt.Sprint(1+c.Rand.IntN(20), "m"), "max_ttl": "1h", "policy_document": document,
			"iam_groups": "deployers"}))
	must("roles/proven", with(deploy, fields{"default_ttl": "30s", "max_ttl": "5m"}))
	must("static-roles/svc", fields{"username": "svc", "rotation_period": "100m", "grace_period": "20m"})
}

// Break orders some failures of AWS.
func (c *chaos) Break() {
	actions := []string{
		"CreateUser", "CreateAccessKey", "CreateAccessKey", "CreateAccessKey", "AttachUserPolicy", "AddUserToGroup",
		"PutUserPolicy", "ListAccessKeys", "GetUser",
		"DeleteAccessKey", "UpdateAccessKey", "GetAccessKeyLastUsed", "GetCallerIdentity", "ListGroupsForUser",
		"ListAttachedUserPolicies", "DetachUserPolicy",
		"RemoveUserFromGroup", "DeleteUserPolicy", "DeleteUser", "",
	}
	for range c.Rand.IntN(4) {
		f := awstest.Fault{
			Action: rotatetest.Pick(c.Harness, actions...), Skip: c.Rand.IntN(3), Times: 1 + c.Rand.IntN(4),
			Wait: c.UpTo(6 * time.Minute),
			Mode: rotatetest.Pick(c.Harness, awstest.Before, awstest.Lost, awstest.Throttle, awstest.Malformed,
				awstest.Slow, awstest.Late, awstest.Late, awstest.Denied, awstest.Lie),
		}
		switch f.Mode {
		case awstest.Slow:
			f.Wait /= 4
		case awstest.Lie:
			f.Action = rotatetest.Pick(c.Harness, "DeleteAccessKey", "UpdateAccessKey")
		}
		c.aws.Inject(f)
		c.Note("AWS fails: %+v", f)
	}
}

// Heal ends the failures.
func (c *chaos) Heal() { c.aws.Clear() }

// Act leases, revokes, rotates, or changes the configuration.
func (c *chaos) Act(server int) (string, func() error) {
	w := c.worlds[server]
	ask := func(path string, body any) (string, func() error) {
		return path, func() error { return w.Write(path, body) }
	}
	switch n := c.Rand.IntN(20); {
	case n < 9:
		path := "creds/" + rotatetest.Pick(c.Harness, "short", "full", "proven")
		return path, func() error {
			a, err := w.Do(route.Write, path, nil)
			if err == nil {
				c.leased.Give(a.Lease.ID)
				c.mu.Lock()
				defer c.mu.Unlock()
				c.secret = append(c.secret, a.Data["secret_key"].(string))
			}
			return err
		}
	case n < 12:
		return ask("rotate-role/svc", nil)
	case n < 14:
		return ask("config/rotate-root", nil)
	case n < 15:
		return ask("static-roles/svc", fields{"rotation_period": fmt.Sprint(100+c.Rand.IntN(50), "m")})
	case n < 16:
		return ask("config/root", fields{"rotation_period": fmt.Sprint(20+c.Rand.IntN(60), "m")})
	}
	return "revoke", func() error { return c.leased.First(true, w.Revoke) }
}

// Readers read the static role as its answers say.
func (c *chaos) Readers() []rotatetest.Reader {
	return []rotatetest.Reader{{
		Name: "the reader of the static role", Lasts: true,
		Read: func(server int) (string, time.Duration, bool) {
			a, err := c.worlds[server].Do(route.Read, "static-creds/svc", nil)
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				return c.last, 5 * time.Second, c.last != ""
			}
			c.last = a.Data["access_key"].(string) + " " + a.Data["secret_key"].(string)
			c.secret = append(c.secret, a.Data["secret_key"].(string))
			return c.last, time.Duration(a.Data["ttl"].(float64)) * time.Second, true
		},
		Works: func(value string) bool {
			var id, secret string
			fmt.Sscan(value, &id, &secret)
			works := c.aws.Works(id, secret)
			c.aws.Use(id)
			return works
		},
	}}
}

// users are those that were leased.
func (c *chaos) users() []string {
	return slices.DeleteFunc(c.aws.Users(awstest.Account),
		func(name string) bool { return name == awstest.Admin || name == "svc" || name == "person" })
}

// Check wants each user in a lease, and each lease that a client was given to have its user.
func (c *chaos) Check(int) { c.leased.Check() }

// Repair rotates once more, ends the schedules, and lets what is under way end. It runs in a
// bubble.
func (c *chaos) Repair() {
	w := c.worlds[0]
	// A rotation of the schedule may be ending at this moment, its old key not yet dead
	// everywhere.
	for tries := 0; ; tries++ {
		_, err := w.Do(route.Write, "config/rotate-root", nil)
		if err == nil {
			break
		}
		if tries == 10 {
			c.Fatalf("rotate-root fails long after all is well: %v", err)
		}
		time.Sleep(time.Minute)
	}
	for _, path := range []string{"config/root", "static-roles/svc"} {
		w.Must(c.T, route.Write, path, fields{"disable_automated_rotation": true})
	}
	time.Sleep(2 * time.Hour)
	for range 30 { // a key that somebody else has made has a day to be used
		if w.Must(c.T, route.Read, "static-roles/svc", nil).Data["previous_access_key"] != nil {
			time.Sleep(time.Hour)
		}
	}
	c.leased.CheckNone()
	if keys := c.aws.Keys(awstest.Account, awstest.Admin); len(keys) != 1 {
		c.Errorf("keys of the administrator: %+v", keys)
	}
	a := w.Must(c.T, route.Write, "creds/proven", nil)
	if !c.aws.Works(a.Data["access_key"].(string), a.Data["secret_key"].(string)) {
		c.Error("what is leased at the end does not work")
	}
}

// Live are the keys of the two users whose keys rotate, but the administrator's first one, which
// no rotation has made.
func (c *chaos) Live() (out []rotatetest.Live) {
	for _, user := range []string{"svc", awstest.Admin} {
		for _, k := range c.aws.Keys(awstest.Account, user) {
			if k.ID != awstest.ID {
				out = append(out, rotatetest.Live{ID: k.ID})
			}
		}
	}
	if keys := c.aws.Keys(awstest.Account, "person"); len(keys) != 1 || keys[0].ID != c.foreign || keys[0].Inactive {
		c.Errorf("somebody else's keys are %+v", keys)
	}
	return out
}

// Shown are answers and events.
func (c *chaos) Shown() (text string, secrets []string) {
	for _, path := range []string{"config/root", "static-roles/svc"} {
		text += c.worlds[0].Must(c.T, route.Read, path, nil).Text
	}
	for _, w := range c.worlds {
		if w != nil {
			text += fmt.Sprint(w.Events())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return text, c.secret
}

// TestCrashes: whatever AWS does, and whenever a server dies, there is no user in the end that no
// lease knows, no lease without a user, no key that no record knows, and nothing left to do.
func TestCrashes(t *testing.T) {
	const m = "mount/" + enginetest.UUID + "/"
	rotatetest.Play(t, 30, rotatetest.Plan{
		Subject: newChaos, Length: 4 * time.Hour, Round: 20 * time.Minute, Recovery: 3 * time.Hour, Uses: 50,
		Rows: []rotatetest.Rows{
			{Records: m + "static/", Secrets: m + "ss/", History: m + "sh/", Journal: m + "sj/"},
			{Records: m + "rk/", Secrets: m + "rs/", History: m + "rh/", Journal: m + "rj/"},
		},
	})
}
