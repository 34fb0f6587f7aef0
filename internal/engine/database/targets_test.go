package database_test

import (
	"testing"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/route"
)

func TestTargets(t *testing.T) {
	for name, setUp := range map[string]func(w *world) (kind, name string){
		"static role": func(w *world) (kind, name string) {
			w.Must(w.t, route.Write, "static-roles/svc", svc)
			return "static", "svc"
		},
		"two users that take turns": func(w *world) (kind, name string) {
			w.Must(w.t, route.Write, "static-roles/svc", with(svc, fields{"alternate_username": "svc-b"}))
			return "static", "svc"
		},
		"administrator": func(w *world) (kind, name string) {
			w.Must(w.t, route.Write, "rotate-root/prod", nil)
			for name := range w.Engine.(engine.Rotator).Rotations().Names(w.t.Context(), "root", "") {
				return "root", name
			}
			return "root", "none"
		},
	} {
		t.Run(name, func(t *testing.T) {
			rotatetest.Targets(t, func(t *testing.T) rotatetest.Fixture {
				w := withUsers(t, enginetest.Config{}, "svc", "svc-b")
				kind, name := setUp(w)
				return rotatetest.Fixture{
					Open: rotatetest.Of(w.Engine.(engine.Rotator).Rotations(), kind, name),
					Works: func(c rotate.Credential) bool {
						for _, word := range c.Secret {
							return w.fake.Login(c.Account, word.RevealString()) == nil
						}
						return false
					},
				}
			})
		})
	}
}
