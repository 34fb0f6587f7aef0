package database_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// TestLessons: what has hurt users of other servers; docs/lessons.md is the whole list.
func TestLessons(t *testing.T) {
	rotatetest.Lessons(t, map[string]rotatetest.Opener{
		"static role": func(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
			return staticThing(t, store, nil)
		},
		"two users that take turns": func(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
			return staticThing(t, store, fields{"alternate_username": "svc-b"})
		},
		"user that changes its own": func(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
			return staticThing(t, store, fields{"db_name": "own", "self_managed_password": oldPassword})
		},
		"certificate": func(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
			s := staticThing(t, store, certified(t, 10000*time.Hour, "TELL {{subject}}"))
			s.Always = true
			return s
		},
		"administrator": rootThing,
	})
}

// thing is what all have in common: the users whose passwords rotate, and how a database fails.
func (w *world) thing(kind, name string, users ...string) *rotatetest.LessonSubject {
	var made atomic.Int32
	var refuses atomic.Bool
	w.setRules(func(user, _ string) error {
		if slices.Contains(users, user) {
			made.Add(1)
		}
		if refuses.Load() {
			return errors.New("the password is too weak")
		}
		return nil
	})
	w.setHook(func(call string) error {
		if call == "set key" {
			made.Add(1)
		}
		return nil
	})
	return &rotatetest.LessonSubject{
		Server: w, Kind: kind, Noun: name,
		Mount: func() rotatetest.Mount { return w.Engine.(rotatetest.Mount) },
		Made:  func() int { return int(made.Load()) },
		Faults: map[string]func(){
			"away": func() { w.fake.SetDown(true) }, "lost": func() { w.fake.LoseReplies(1) },
			"lost again and again": func() { w.fake.LoseReplies(100) },
			"hang":                 func() { w.hang(true) }, "refuse": func() { refuses.Store(true) },
		},
		Heal: func() {
			w.fake.SetDown(false)
			w.fake.LoseReplies(0)
			w.hang(false)
			refuses.Store(false)
		},
	}
}

func staticThing(t *testing.T, store storage.Store, more fields) *rotatetest.LessonSubject {
	w := withUsers(t, enginetest.Config{Store: store}, "svc", "svc-b")
	w.Must(t, route.Write, "config/own", ownConfig)
	s := w.thing("static", "svc", "svc", "svc-b")
	s.Configure = func() error {
		return w.Write("static-roles/svc", with(with(svc, more), fields{"rotation_period": "24h"}))
	}
	s.Change = func(when fields) { w.Must(t, route.Write, "static-roles/svc", when) }
	s.Rotate = func() error { return w.Write("rotate-role/svc", nil) }
	s.Issued = func() string { name, password := w.given("svc"); return name + " " + password }
	if more["alternate_username"] != nil {
		s.Works = func(given string) bool {
			name, password, _ := strings.Cut(given, " ")
			return w.fake.Has(name, password)
		}
	}
	return s
}

func rootThing(t *testing.T, store storage.Store) *rotatetest.LessonSubject {
	w := ready(t, enginetest.Config{Store: store})
	s := w.thing("root", "prod", databasetest.FakeAdmin)
	s.Configure = func() error { return w.Write("config/prod", fields{"rotation_period": "24h"}) }
	s.Change = func(when fields) { w.Must(t, route.Write, "config/prod", when) }
	s.Rotate = func() error { return w.Write("rotate-root/prod", nil) }
	s.Issued = func() string { w.issue("ro"); return w.fake.Root() }
	return s
}
