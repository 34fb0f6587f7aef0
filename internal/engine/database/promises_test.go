package database_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// signedBy is a role whose certificates are signed by what these texts hold.
func signedBy(cert, key string) fields {
	return with(ro, fields{"credential_type": "client_certificate",
		"credential_config": fields{"ca_cert": cert, "ca_private_key": key, "key_type": "ec"}})
}

// TestFormsOfAnAuthority: its key comes in any of the usual forms, up to 16 KiB; its certificate
// is one, whatever the block calls itself.
func TestFormsOfAnAuthority(t *testing.T) {
	w := ready(t, enginetest.Config{})
	signed := func(key crypto.Signer) string {
		root := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "forms"},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return block("CERTIFICATE", der)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	number, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := x509.MarshalECPrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	ecCert, rsaCert := signed(curve), signed(number)
	ecKey, rsaKey := block("EC PRIVATE KEY", ec), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(number))
	padded := func(n int) string { return ecKey + strings.Repeat("\n", n-len(ecKey)) }
	for name, role := range map[string]fields{
		"EC": signedBy(ecCert, ecKey), "PKCS #1": signedBy(rsaCert, rsaKey),
		"16 KiB": signedBy(ecCert, padded(16<<10)),
		"parameters before it": signedBy(ecCert,
			block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7})+ecKey),
	} {
		w.Must(t, route.Write, "roles/ro", role)
		leafOf(t, w.Must(t, route.Read, "creds/ro", nil).Data, role["credential_config"].(fields)["ca_cert"].(string))
		if t.Failed() {
			t.Fatalf("an authority whose key's form is %s", name)
		}
	}
	der, _ := pem.Decode([]byte(ecCert))
	for _, tt := range []struct{ cert, key, want string }{
		{ecCert, padded(16<<10 + 1), "ca_private_key cannot be read: it is longer than 16384 bytes"},
		{ecCert, block("EC PRIVATE KEY", []byte("junk")), "ca_private_key cannot be read: its form is unknown"},
		{ecCert + block("CERTIFICATE", []byte("junk")), ecKey,
			`ca_cert has a block "CERTIFICATE" that is not a certificate`},
		{block("ATTRIBUTE", der.Bytes), ecKey, `ca_cert has a block "ATTRIBUTE" that is not a certificate`},
	} {
		w.Refused(t, route.Write, "roles/ro", signedBy(tt.cert, tt.key), fault.Invalid, tt.want)
	}
}

// TestWhatIsIssuedChainsToTheRoot: with the certificate come those between it and the root, and
// not the root, which the server has.
func TestWhatIsIssuedChainsToTheRoot(t *testing.T) {
	w := ready(t, enginetest.Config{})
	rootText, rootKeyText := authority(t, time.Hour, nil)
	rootBlock, _ := pem.Decode([]byte(rootText))
	keyBlock, _ := pem.Decode([]byte(rootKeyText))
	root, err := x509.ParseCertificate(rootBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	rootKey, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "between"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour),
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, root, &own.PublicKey, rootKey)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	w.Must(t, route.Write, "roles/ro", signedBy(block("CERTIFICATE", der)+rootText, block("PRIVATE KEY", key)))
	chain := []byte(w.Must(t, route.Read, "creds/ro", nil).Data["client_certificate"].(string))
	var sent [][]byte
	for {
		var b *pem.Block
		if b, chain = pem.Decode(chain); b == nil {
			break
		}
		sent = append(sent, b.Bytes)
	}
	if len(sent) != 2 || !bytes.Equal(sent[1], der) {
		t.Errorf("%d certificates are issued, want the user's and the one between it and the root", len(sent))
	}
}

// TestCertificateLastsAsLongAsItsLease may, to the second, whenever it is issued.
func TestCertificateLastsAsLongAsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		role := certRole(t, 1000*time.Hour)
		w.Must(t, route.Write, "roles/ro", role)
		for _, part := range []time.Duration{0, 300 * time.Millisecond, 700 * time.Millisecond} {
			time.Sleep(part)
			leaf := leafOf(t, w.Must(t, route.Read, "creds/ro", nil).Data,
				role["credential_config"].(fields)["ca_cert"].(string))
			end := time.Now().Add(2 * time.Hour)
			if over := leaf.NotAfter.Sub(end); over < 0 || over >= time.Second {
				t.Errorf("issued %v after a whole second, it ends %v after the lease can", part, over)
			}
		}
	})
}

// TestLongestCommonName is 64 bytes: a user with a longer name has no certificate.
func TestLongestCommonName(t *testing.T) {
	w := ready(t, enginetest.Config{})
	for n, want := range map[int]string{64: "", 65: "a certificate's common name allows 64"} {
		name := strings.Repeat("n", n)
		w.fake.AddUser(name, oldPassword)
		_, err := w.Do(route.Write, "static-roles/app-long",
			with(certified(t, time.Hour, ""), fields{"username": name}))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(fault.Message(err), want) {
			t.Errorf("a name of %d bytes: %v", n, err)
		}
		_, _ = w.Do(route.Delete, "static-roles/app-long", nil)
	}
}

// TestKeyPair takes a certificate and its key, and none that is so long that checking it would
// take seconds.
func TestKeyPair(t *testing.T) {
	cert, key := authority(t, time.Hour, nil)
	pad := func(s string, n int) []byte { return []byte(s + strings.Repeat("\n", n-len(s))) }
	for _, tt := range []struct {
		cert, key []byte
		want      string
	}{
		{[]byte(cert), []byte(key), ""},
		{[]byte(cert), []byte(cert + key), ""}, // as some tools write it
		{pad(cert, database.MaxURL), pad(key, database.MaxURL), ""},
		{pad(cert, database.MaxURL+1), []byte(key), "longer than"},
		{[]byte(cert), pad(key, database.MaxURL+1), "longer than"},
		{[]byte(cert), []byte(block("RSA PRIVATE KEY", make([]byte, 16<<10+1))), "the key is longer than 16384 bytes"},
		{[]byte(cert), []byte(block("RSA PRIVATE KEY", make([]byte, 16<<10))), "tls: "}, // is looked at
		{[]byte(cert), []byte(block("NOTES", make([]byte, 20<<10)) + key), ""},
	} {
		if _, err := database.KeyPair(tt.cert, tt.key); (err == nil) != (tt.want == "") || err != nil &&
			!strings.Contains(err.Error(), tt.want) {
			t.Errorf("%d and %d bytes: %v, want %q", len(tt.cert), len(tt.key), err, tt.want)
		}
	}
}

// TestSelfManagedBringsNoAdministrator: neither a name nor a password.
func TestSelfManagedBringsNoAdministrator(t *testing.T) {
	w := open(t, enginetest.Config{})
	for _, absent := range []string{"username", "password"} {
		w.Refused(t, route.Write, "config/self", with(prod, fields{"self_managed": true, absent: nil}), fault.Invalid,
			`field "self_managed"`)
	}
	w.Refused(t, route.Write, "config/prod", with(prod, fields{"plugin_name": nil}), fault.Invalid,
		`such as "fake-database-plugin"`)
}

// TestAdministratorIsReplaced: the next rotation is of the one that is configured now.
func TestAdministratorIsReplaced(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "rotate-root/prod", nil)
	rotated := w.fake.Root()
	w.fake.AddUser("second", "second-password")
	w.Must(t, route.Write, "config/prod", fields{"username": "second", "password": "second-password"})
	w.Must(t, route.Write, "rotate-root/prod", nil)
	if w.fake.Has("second", "second-password") || w.fake.Root() != rotated {
		t.Errorf("the second administrator's password is as before: %v; the first one's was changed: %v",
			w.fake.Has("second", "second-password"), w.fake.Root() != rotated)
	}
	w.issue("ro")
}

// TestPasswordEndsAnUnknownRotation: nobody knows whether a rotation has changed the
// administrator's password. A write that gives one that works ends it, also if it is the one of
// before for another place or user; the same configuration again does not.
func TestPasswordEndsAnUnknownRotation(t *testing.T) {
	for _, tt := range []struct {
		name string
		more fields
		ends bool
	}{
		{"the same again", fields{}, false},
		{"another place", fields{"connection_url": "fake://{{username}}:{{password}}@db2"}, true},
		{"another user", fields{"username": "second"}, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := ready(t, enginetest.Config{})
			w.fake.AddUser("second", databasetest.FakePassword)
			w.fake.LoseReplies(9)
			w.setHook(func(call string) error { // somebody sets it back each time
				if call == "verify" {
					w.fake.SetRoot(databasetest.FakePassword)
				}
				return nil
			})
			if _, err := w.Do(route.Write, "rotate-root/prod", nil); err == nil {
				t.Fatal("the rotation has succeeded")
			}
			unfinished := func() bool { return w.Engine.(engine.Keeper).Unfinished(context.Background()) != nil }
			if !unfinished() {
				t.Fatal("the rotation is over")
			}
			if _, err := w.Do(route.Write, "config/prod",
				with(fields{"password": databasetest.FakePassword}, tt.more)); tt.ends && err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
			if unfinished() == tt.ends {
				t.Errorf("%s: the rotation is under way: %v", tt.name, unfinished())
			}
		})
	}
}

// TestReplacedPasswordThatWorksAgain, because the database was restored, is taken; one that does
// not is not.
func TestReplacedPasswordThatWorksAgain(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "rotate-root/prod", nil)
	w.Refused(t, route.Write, "config/prod", fields{"password": databasetest.FakePassword}, fault.Invalid,
		"rotate-root has replaced")
	w.fake.SetRoot(databasetest.FakePassword)
	w.Must(t, route.Write, "config/prod", fields{"password": databasetest.FakePassword})
	w.issue("ro")
}

// TestWhoKnowsThePassword: a write that would send it elsewhere is told whether anybody can give
// it.
func TestWhoKnowsThePassword(t *testing.T) {
	w := ready(t, enginetest.Config{})
	refused := func(nobody bool) {
		t.Helper()
		_, err := w.Do(route.Write, "config/prod", fields{"tls_ca": "EVIL"})
		if msg := fault.Message(err); !fault.Is(err, fault.Invalid) ||
			strings.Contains(msg, "nobody knows since it was rotated") != nobody {
			t.Errorf("%v, want it refused, and to say that nobody knows the password: %v", err, nobody)
		}
	}
	refused(false)
	w.Must(t, route.Write, "rotate-root/prod", nil)
	refused(true)
	w.Must(t, route.Write, "config/prod", fields{"allowed_roles": "*"})
	refused(true)
	w.fake.SetRoot("given-password")
	w.Must(t, route.Write, "config/prod", fields{"password": "given-password"})
	refused(false)
}

// TestMovingWithoutLeases warns of nothing.
func TestMovingWithoutLeases(t *testing.T) {
	w := ready(t, enginetest.Config{})
	moved := fields{"connection_url": "fake://{{username}}:{{password}}@db2", "password": databasetest.FakePassword}
	if a := w.Must(t, route.Write, "config/prod", moved); a.Warnings != nil {
		t.Errorf("warnings %q", a.Warnings)
	}
}

// TestPasswordPolicyThatIsAbsent is warned of, whatever calls it absent; where that cannot be
// found out, nothing is stored.
func TestPasswordPolicyThatIsAbsent(t *testing.T) {
	kinds := map[string]fault.Kind{"invalid": fault.Invalid, "gone": fault.NotFound, "unknown": fault.Unavailable}
	w := open(t, enginetest.Config{Host: func(h *engine.Host) {
		h.Password = func(_ context.Context, policy string) (secret.Value, error) {
			if k, ok := kinds[policy]; ok {
				return secret.Value{}, fault.New("policies", k, "about %s", policy)
			}
			return secret.Text("a-password"), nil
		}
	}})
	for policy, want := range map[string]string{"there": "", "invalid": "about invalid", "gone": "about gone"} {
		a := w.Must(t, route.Write, "config/prod", with(prod, fields{"password_policy": policy}))
		if (len(a.Warnings) > 0) != (want != "") || !strings.Contains(strings.Join(a.Warnings, ""), want) {
			t.Errorf("policy %q: warnings %q", policy, a.Warnings)
		}
	}
	w.Refused(t, route.Write, "config/prod", with(prod, fields{"password_policy": "unknown"}), fault.Unavailable,
		"about unknown")
}

// TestCreateAndUpdateAreTold apart, for the policies.
func TestCreateAndUpdateAreTold(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "roles/ro", ro)
	w.Must(t, route.Write, "static-roles/svc", svc)
	table, err := route.NewTable(w.Engine.Routes())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"config/prod": true, "config/other": false, "roles/ro": true, "roles/other": false, "static-roles/svc": true,
		"static-roles/other": false,
	} {
		r := &route.Request{Op: route.Write, Rest: path, Caller: &route.Caller{}}
		found, err := table.Find(r)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := found.Exists(t.Context(), r); err != nil || got != want {
			t.Errorf("%s exists: %v, %v, want %v", path, got, err, want)
		}
	}
}

// TestDeletedInTheMiddle: whoever deletes a static role whose password may have been changed
// learns that nobody knows it.
func TestDeletedInTheMiddle(t *testing.T) {
	for _, unknown := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := withUsers(t, enginetest.Config{}, "svc")
			w.Must(t, route.Write, "static-roles/svc", svc)
			if unknown {
				w.fake.LoseReplies(9)
				for n := 1; n < 3; n++ {
					_, _ = w.Do(route.Write, "rotate-role/svc", nil)
				}
				if a := w.Must(t, route.Read, "static-roles/svc", nil); len(a.Warnings) == 0 ||
					!strings.Contains(a.Warnings[0], "attempts to change the password have failed") {
					t.Errorf("a read warns of %q", a.Warnings)
				}
			}
			a := w.Must(t, route.Delete, "static-roles/svc", nil)
			if warned := strings.Contains(strings.Join(a.Warnings, ""),
				"whether it took place is not known"); warned != unknown {
				t.Errorf("unknown %v: warnings %q", unknown, a.Warnings)
			}
		})
	}
}

// TestPasswordOfAStoredRole has no effect, and the write says so where one is given.
func TestPasswordOfAStoredRole(t *testing.T) {
	w := withUsers(t, enginetest.Config{}, "svc")
	w.Must(t, route.Write, "static-roles/svc", svc)
	for password, warned := range map[string]bool{"": false, "given": true} {
		a := w.Must(t, route.Write, "static-roles/svc", fields{"password": password})
		if strings.Contains(strings.Join(a.Warnings, ""), "password has no effect") != warned {
			t.Errorf("password %q: warnings %q", password, a.Warnings)
		}
	}
}
