package database_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// certified is a static role whose user has certificates by an authority that lives for so long.
func certified(t *testing.T, life time.Duration, statements string) fields {
	role := certRole(t, life)
	return with(svc, fields{"credential_type": role["credential_type"], "credential_config": role["credential_config"],
		"rotation_statements": statements})
}

// takes reports whether the database lets a user in by a certificate.
func (w *world) takes(name, certificate, key string) bool {
	w.t.Helper()
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		w.t.Fatalf("what was given out does not fit together: %v", err)
	}
	p := w.fake.Provider()
	conn, err := p.Connect(context.Background(), database.Config{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	ok, err := conn.(database.KeyConn).LoginCertificate(context.Background(), name, pair)
	if err != nil {
		w.t.Fatal(err)
	}
	return ok
}

func ends(t *testing.T, certificate string) time.Time {
	t.Helper()
	block, _ := pem.Decode([]byte(certificate))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return leaf.NotAfter
}

// A certificate turns by itself, lives for its turn and another, and is dead at once where
// the database is told of the next.
func TestStaticCertificate(t *testing.T) {
	for _, statements := range []string{"", "TELL {{subject}}"} {
		t.Run(statements, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { staticCertificate(t, statements) })
		})
	}
}

// staticCertificate is one such role, in a bubble.
func staticCertificate(t *testing.T, statements string) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "static-roles/svc", certified(t, 1000*time.Hour, statements))
	a := w.Must(t, route.Read, "static-creds/svc", nil)
	first, key := a.Data["client_certificate"].(string), a.Data["private_key"].(string)
	w.given("svc")
	if a.Data["password"] != nil || a.Data["private_key_type"] != "ec" || a.Data["ttl"] != 3600.0 {
		t.Errorf("answer %v", a.Data)
	}
	if left := time.Until(ends(t, first)); left < 3*time.Hour || left > 3*time.Hour+time.Second {
		t.Errorf("it ends in %s, want two periods and an hour", left)
	}
	time.Sleep(time.Hour + time.Second)
	_, second := w.given("svc")
	if second == first {
		t.Error("it was not rotated after its period")
	}
	a = w.Must(t, route.Write, "rotate-role/svc", nil)
	if told := statements != ""; w.takes("svc", first, key) == told || len(a.Warnings) == 1 == told {
		t.Errorf("the database knows which one counts: %v; it takes the first: %v; warnings %q", told,
			w.takes("svc", first, key), a.Warnings)
	}
	if end := ends(t, second).UTC().Format(time.RFC3339); statements == "" &&
		(len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], end)) {
		t.Errorf("warnings %q, want one that the certificate before is taken until %s", a.Warnings, end)
	}
	// A longer period does not let it end before its turn.
	_, third := w.given("svc")
	w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "240h"})
	time.Sleep(time.Minute)
	if _, now := w.given("svc"); now == third || time.Until(ends(t, now)) < 480*time.Hour {
		t.Errorf("after the period became longer, what is given out ends at %s", ends(t, now))
	}
	// A turn that fails for longer than a certificate lives goes on with another.
	w.Must(t, route.Write, "static-roles/svc", fields{"rotation_period": "1h"})
	w.Must(t, route.Write, "rotate-role/svc", nil)
	w.fake.SetDown(true)
	time.Sleep(24 * time.Hour)
	if a := w.Must(t, route.Read, "static-creds/svc", nil); !strings.Contains(strings.Join(a.Warnings, "\n"),
		"the certificate has ended") {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.fake.SetDown(false)
	time.Sleep(2 * time.Hour)
	w.given("svc")
	for _, text := range append(w.Events(), w.log.String(), w.Must(t, route.Read, "static-roles/svc", nil).Text) {
		if strings.Contains(text, strings.Split(key, "\n")[1]) || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("a private key is in %.200s", text)
		}
	}
}

// A schedule whose times lie unequally far apart misses one, and what is given out lives until the
// next.
func TestStaticCertificateBySchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at midnight, 2000-01-01, a Saturday
		w := withUsers(t, enginetest.Config{}, "svc")
		w.Must(t, route.Write, "static-roles/svc", with(certified(t, 1000*time.Hour, ""),
			fields{"rotation_period": nil, "rotation_schedule": "0 9 * * MON,TUE", "rotation_window": "1h"}))
		time.Sleep(2*24*time.Hour + 10*time.Hour) // Monday
		_, monday := w.given("svc")
		w.fake.SetDown(true)
		time.Sleep(24 * time.Hour)
		w.fake.SetDown(false)
		for range 6 {
			time.Sleep(24*time.Hour - time.Minute)
			w.given("svc")
		}
		if _, now := w.given("svc"); now == monday {
			t.Error("it was not rotated in its next window")
		}
	})
}

func TestStaticRSAKey(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	role := with(svc, fields{"credential_type": "rsa_private_key", "rotation_statements": "SET {{public_key}}"})
	w.Must(t, route.Write, "static-roles/svc", role)
	one := w.Must(t, route.Read, "static-creds/svc", nil)
	told := w.fake.Key("svc")
	if a := w.Must(t, route.Read, "static-roles/svc", nil); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "cannot test a login") {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.fake.LoseReplies(1)
	w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "lost")
	w.Must(t, route.Write, "rotate-role/svc", nil)
	w.Reopen(t)
	two := w.Must(t, route.Read, "static-creds/svc", nil)
	if key := two.Data["rsa_private_key"]; key == nil || key == one.Data["rsa_private_key"] ||
		w.fake.Key("svc") == told || two.Data["password"] != nil {
		t.Errorf("after a turn: %v", two.Data)
	}
}

func TestStaticKeysRefused(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc", strings.Repeat("x", 70))
	role := certified(t, time.Hour, "")
	config := role["credential_config"].(fields)
	for _, tt := range []struct {
		body fields
		want string
	}{
		{with(role, fields{"credential_config": with(config, fields{"common_name_template": "{{random 9}}"})}),
			"common_name_template is for roles that create users"},
		{with(role, fields{"disable_automated_rotation": true, "rotation_period": nil}),
			`field "disable_automated_rotation"`},
		{with(role, fields{"username": strings.Repeat("x", 70)}), "has 70 bytes"},
		{with(role, fields{"username": "a/serialNumber=b"}), "has a slash"},
		{with(role, fields{"password": oldPassword, "skip_import_rotation": true}), `field "password": it is not for`},
		{with(role, fields{"self_managed_password": oldPassword}), `field "self_managed_password"`},
		{with(role, fields{"rotation_statements": "SET {{password}}"}), "{{password}} cannot be used"},
		{with(svc, fields{"rotation_statements": "SET {{public_key}}"}),
			"cannot be used with credential_type password"},
	} {
		w.Refused(t, route.Write, "static-roles/svc", tt.body, fault.Invalid, tt.want)
	}
	w.Must(t, route.Write, "static-roles/svc", role)
	w.Refused(t, route.Write, "static-roles/svc", fields{"credential_type": "password"}, fault.Invalid,
		"cannot change; it is client_certificate")
	w.Must(t, route.Write, "static-roles/svc", fields{"rotation_statements": "FAIL {{public_key}}"})
	w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "refused a statement")
	w.given("svc")
}

// A certificate ends with its authority, and one that nobody can try is not taken for refused.
func TestStaticCertificateThatCannotBeTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := withUsers(t, enginetest.Config{}, "svc")
		role := certified(t, 2*time.Hour, "")
		w.Must(t, route.Write, "static-roles/svc", role)
		a := w.Must(t, route.Read, "static-creds/svc", nil)
		if left := time.Until(ends(t, a.Data["client_certificate"].(string))); left > 2*time.Hour {
			t.Errorf("it ends in %s, after its authority", left)
		}
		w.setHook(func(call string) error {
			if call == "login certificate" {
				return fault.New("fake", fault.Upstream, "the server is away")
			}
			return nil
		})
		w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Upstream, "the server is away")
		if err := w.Engine.(engine.Keeper).Unfinished(t.Context()); !fault.Is(err, fault.Conflict) ||
			!strings.Contains(fault.Message(err), `static role "svc"`) {
			t.Errorf("the new certificate is taken for refused: %v", err)
		}
		w.setHook(nil)
		w.given("svc")
		time.Sleep(3 * time.Hour)
		w.Refused(t, route.Write, "rotate-role/svc", nil, fault.Invalid, "ca_cert expired at")
	})
}

// What a static role cannot have besides a certificate is named.
func TestStaticCertificateOfALongName(t *testing.T) {
	long := strings.Repeat("u", 65)
	w := withUsers(t, enginetest.Config{}, long)
	w.Refused(t, route.Write, "static-roles/svc", with(certified(t, time.Hour, ""), fields{"username": long}),
		fault.Invalid, "has 65 bytes")
	w.Must(t, route.Write, "config/own", ownConfig)
	w.Refused(t, route.Write, "static-roles/svc",
		with(certified(t, time.Hour, ""), fields{"db_name": "own", "self_managed_password": oldPassword}),
		fault.Invalid, "cannot have credential_type client_certificate")
}

// TestRefusedFirstCertificate: a new certificate of which the database is told nothing surely had
// no effect if the database refuses it, so no role is left. One of which the database was told may
// take effect later, and its rotation goes on.
func TestRefusedFirstCertificate(t *testing.T) {
	for statements, stored := range map[string]int{"": 0, "TELL {{subject}}": 1} {
		synctest.Test(t, func(t *testing.T) {
			var lies atomic.Bool
			w := &world{t: t, fake: new(databasetest.Fake), log: new(enginetest.Log),
				fate: func(call string) databasetest.Fate {
					if call == "set key" && lies.Load() {
						return databasetest.Lie
					}
					return databasetest.Well
				}}
			w.open(enginetest.Config{})
			w.Must(t, route.Write, "config/prod", with(prod, fields{"allowed_roles": "*"}))
			w.fake.AddUser("svc", oldPassword)
			// The database takes no other certificate than that of a role that is gone.
			w.Must(t, route.Write, "static-roles/before", certified(t, time.Hour, "TELL {{subject}}"))
			w.Must(t, route.Delete, "static-roles/before", nil)
			lies.Store(true)
			a, err := w.Do(route.Write, "static-roles/svc", certified(t, time.Hour, statements))
			switch {
			case stored == 0 &&
				(err == nil || !strings.Contains(fault.Message(err), "refuses the new certificate of svc")):
				t.Errorf("with statements %q: %v", statements, err)
			case stored == 1 &&
				(err != nil || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "Keyturn keeps trying")):
				t.Errorf("with statements %q: %v, %+v", statements, err, a)
			}
			if n := w.keys("static/"); n != stored {
				t.Errorf("with statements %q: %d roles are stored, want %d", statements, n, stored)
			}
		})
	}
}
