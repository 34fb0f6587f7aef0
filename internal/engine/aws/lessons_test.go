package aws_test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/aws/awstest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// TestLessons: what has hurt users of other servers; docs/lessons.md is the whole list.
func TestLessons(t *testing.T) {
	rotatetest.Lessons(t, map[string]rotatetest.Opener{"static role": staticThing, "config root": rootThing})
}

// thing is what the two that rotate have in common: the user whose keys they are.
func (w *world) thing(kind, user string) *rotatetest.LessonSubject {
	faults := map[string]func(){
		"away": func() { w.deny("CreateAccessKey") },
		"lost": func() { w.aws.Inject(awstest.Fault{Action: "CreateAccessKey", Mode: awstest.Lost, Times: 1}) },
	}
	for _, action := range []string{"CreateAccessKey", "GetCallerIdentity", "DeleteAccessKey", "ListAccessKeys"} {
		for _, mode := range []awstest.Mode{awstest.Before, awstest.Lost, awstest.Malformed, awstest.Denied,
			awstest.Late} {
			faults[action+" "+string(mode)] = func() {
				w.aws.Inject(awstest.Fault{Action: action, Mode: mode, Times: 8, Wait: 3 * time.Minute})
			}
		}
	}
	return &rotatetest.LessonSubject{
		Server: w, Kind: kind, Noun: user,
		Mount: func() rotatetest.Mount { return w.Engine.(rotatetest.Mount) },
		Made:  func() int { return w.aws.Calls("CreateAccessKey") },
		Live: func() (ids []string) {
			for _, k := range w.aws.Keys(awstest.Account, user) {
				ids = append(ids, k.ID)
			}
			return ids
		},
		Faults: faults, Heal: w.aws.Clear,
	}
}

func staticThing(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
	w := open(t, awstest.Options{KeyLag: 3 * time.Second, ListLag: 5 * time.Second}, enginetest.Config{Store: store})
	w.aws.AddUser(awstest.Account, "svc")
	s := w.thing("static", "svc")
	s.Configure = func() error {
		return w.Write("static-roles/svc",
			with(svc, fields{"grace_period": "1h", "idle_period": "30m", "inactive_period": "10m"}))
	}
	s.Change = func(when fields) { w.Must(t, route.Write, "static-roles/svc", when) }
	s.Rotate = func() error { return w.Write("rotate-role/svc", nil) }
	s.Issued = func() string { id, secret := w.given("svc"); return id + " " + secret }
	s.Works = func(given string) bool { id, secret, _ := strings.Cut(given, " "); return w.aws.Works(id, secret) }
	return s
}

func rootThing(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
	w := open(t, awstest.Options{KeyLag: 3 * time.Second, ListLag: 5 * time.Second}, enginetest.Config{Store: store})
	w.Must(t, route.Write, "roles/r", with(deploy, fields{"propagation_checks": 0}))
	s := w.thing("root", awstest.Admin)
	s.Configure = func() error { return w.Write("config/root", fields{"rotation_period": "24h"}) }
	s.Change = func(when fields) { w.Must(t, route.Write, "config/root", when) }
	s.Rotate = func() error { return w.Write("config/rotate-root", nil) }
	lent := 0
	s.Made = func() int { return w.aws.Calls("CreateAccessKey") - lent }
	s.Issued = func() string {
		lent++
		w.issue("creds/r", nil)
		return w.root("access_key").(string)
	}
	return s
}
