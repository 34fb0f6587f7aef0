package database_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
)

// authority is a certificate and its key, in PEM, that live for so long.
func authority(t *testing.T, life time.Duration, edit func(*x509.Certificate)) (cert, key string) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if edit != nil {
		edit(root)
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &own.PublicKey, own)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}

// certRole is a role whose users have certificates by an authority that lives for so long.
func certRole(t *testing.T, life time.Duration) fields {
	cert, key := authority(t, life, nil)
	return with(ro, fields{"credential_type": "client_certificate",
		"credential_config": fields{"ca_cert": cert, "ca_private_key": key, "key_type": "ec"}})
}

// leafOf reads what was given out, as a client would load it, and verifies it as a server would.
func leafOf(t *testing.T, data map[string]any, ca string) *x509.Certificate {
	t.Helper()
	cert, _ := data["client_certificate"].(string)
	key, _ := data["private_key"].(string)
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		t.Fatalf("what was given out does not fit together: %v", err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	if _, err := leaf.Verify(
		x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			CurrentTime: time.Now()}); err != nil {
		t.Errorf("a server that trusts the authority: %v", err)
	}
	return leaf
}

func bodyOf(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

// An issued certificate is its user's alone, ends when the lease has ended at the latest, and what
// signed it is never shown.
func TestClientCertificate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		role := certRole(t, 1000*time.Hour)
		w.Must(t, route.Write, "roles/ro", role)
		config := role["credential_config"].(fields)
		ca, caKey := config["ca_cert"].(string), config["ca_private_key"].(string)
		serials := map[string]bool{}
		for range 3 {
			a := w.Must(t, route.Read, "creds/ro", nil)
			if a.Data["password"] != nil || a.Data["rsa_private_key"] != nil || a.Data["private_key_type"] != "ec" {
				t.Errorf("answer %v", a.Data)
			}
			name, leaf := a.Data["username"].(string), leafOf(t, a.Data, ca)
			if leaf.Subject.String() != "CN="+name {
				t.Errorf("the certificate is of %s, want %s", leaf.Subject, name)
			}
			if left := time.Until(leaf.NotAfter); left < 2*time.Hour || left > 2*time.Hour+time.Second {
				t.Errorf("it ends in %s, want max_ttl, 2h", left)
			}
			if since := time.Since(leaf.NotBefore); since < time.Minute || since > time.Minute+time.Second {
				t.Errorf("it began %s ago, want a minute", since)
			}
			if serials[leaf.SerialNumber.String()] = true; leaf.SerialNumber.BitLen() != 127 {
				t.Errorf("serial %s of %d bits", leaf.SerialNumber, leaf.SerialNumber.BitLen())
			}
			if leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 1 ||
				!leaf.BasicConstraintsValid || leaf.IsCA {
				t.Errorf("usage %v %v, authority %v", leaf.KeyUsage, leaf.ExtKeyUsage, leaf.IsCA)
			}
			if told := w.fake.Key(name); told.Subject != "/CN="+name || told.Public != bodyOf(t, leaf.PublicKey) {
				t.Errorf("the database was told %+v", told)
			}
			if err := w.Revoke(a.Lease.ID); err != nil {
				t.Fatal(err)
			}
		}
		w.want(0, 0)
		if len(serials) != 3 {
			t.Errorf("serial numbers %v", serials)
		}
		// A write of what was read, and one of another option, keep the authority's key.
		read := w.Must(t, route.Read, "roles/ro", nil)
		if d := cmp.Diff(fields{"ca_cert": ca, "key_type": "ec"}, read.Data["credential_config"]); d != "" ||
			read.Data["credential_type"] != "client_certificate" {
			t.Errorf("config (-want +got):\n%s\n%v", d, read.Data["credential_type"])
		}
		w.Must(t, route.Write, "roles/ro", read.Data)
		w.Must(t, route.Write, "roles/ro", fields{"credential_config": fields{"ca_cert": ca, "key_type": "ed25519"}})
		w.Reopen(t)
		a := w.Must(t, route.Read, "creds/ro", nil)
		if leafOf(t, a.Data, ca); a.Data["private_key_type"] != "ed25519" {
			t.Errorf("answer %v", a.Data)
		}
		for what, text := range map[string]string{"the role": read.Text, "the log": w.log.String(),
			"the lease": string(a.Lease.Data)} {
			for _, key := range []string{caKey, a.Data["private_key"].(string)} {
				if body := strings.Split(key, "\n")[1]; strings.Contains(text, body) {
					t.Errorf("%s shows a private key", what)
				}
			}
		}
		// Another type forgets it.
		w.Must(t, route.Write, "roles/ro", fields{"credential_type": "password"})
		if a := w.Must(t, route.Read, "roles/ro", nil); !cmp.Equal(a.Data["credential_config"], any(fields{})) {
			t.Errorf("after a change of the type: %v", a.Data)
		}
		w.issue("ro")
		w.Refused(t, route.Write, "roles/ro",
			fields{"credential_type": "client_certificate",
				"credential_config": fields{"ca_cert": ca, "key_type": "ec"}}, fault.Invalid,
			"ca_private_key is required")
	})
}

// A renewal does not outlive the certificate, and neither does a lease its authority.
func TestCertificateBoundsItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := ready(t, enginetest.Config{})
		role := certRole(t, 90*time.Minute)
		w.Must(t, route.Write, "roles/ro", role)
		a := w.Must(t, route.Read, "creds/ro", nil)
		leaf := leafOf(t, a.Data, role["credential_config"].(fields)["ca_cert"].(string))
		w.Must(t, route.Write, "roles/ro", fields{"max_ttl": "9h"})
		if l, err := w.Renew(a.Lease.ID, 5*time.Hour); err != nil || l.Expires.After(leaf.NotAfter) ||
			time.Until(l.Expires) < 89*time.Minute {
			t.Errorf("renewed until %v, %v; the certificate ends at %s", l, err, leaf.NotAfter)
		}
		if time.Until(leaf.NotAfter) > 90*time.Minute {
			t.Errorf("the certificate ends at %s, after its authority", leaf.NotAfter)
		}
		time.Sleep(time.Hour)
		if a := w.Must(t, route.Read, "creds/ro", nil); time.Until(a.Lease.Expires) > 30*time.Minute {
			t.Errorf("half an hour before the authority's end, a lease ends at %s", a.Lease.Expires)
		}
		time.Sleep(time.Hour)
		w.want(0, 0)
		w.Refused(t, route.Read, "creds/ro", nil, fault.Invalid, "ca_cert expired at")
		w.Refused(t, route.Write, "roles/ro", fields{"default_ttl": "1m"}, fault.Invalid, "ca_cert expired at")
	})
}

// The name of the user is what its certificate says, by whatever template.
func TestCommonNameTemplate(t *testing.T) {
	w := ready(t, enginetest.Config{})
	role := certRole(t, time.Hour)
	config := role["credential_config"].(fields)
	w.Must(t, route.Write, "roles/ro", with(role, fields{"credential_config": with(config,
		fields{"common_name_template": "{{.RoleName}}_{{random 9}}"})}))
	a := w.Must(t, route.Read, "creds/ro", nil)
	if name, leaf := a.Data["username"].(string), leafOf(t, a.Data,
		config["ca_cert"].(string)); !strings.HasPrefix(name, "ro_") || leaf.Subject.CommonName != name {
		t.Errorf("the user is %s, the certificate is of %s", name, leaf.Subject)
	}
	again := w.Must(t, route.Write, "roles/ro",
		with(role, fields{"credential_config": with(config, fields{"common_name_template": "fixed"})}))
	if len(again.Warnings) != 1 ||
		!strings.Contains(again.Warnings[0], `common_name_template makes the same name again, such as "fixed"`) {
		t.Errorf("warnings %q", again.Warnings)
	}
	w.Refused(t, route.Write, "roles/ro",
		with(role, fields{"credential_config": with(config, fields{"common_name_template": "{{.Nonesuch}}"})}),
		fault.Invalid, `field "common_name_template"`)
}

// A token that reads again is given its certificate again.
func TestReuseOfCertificates(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "roles/ro", with(certRole(t, time.Hour), fields{"reuse": "token"}))
	one, two := w.Must(t, route.Read, "creds/ro", nil), w.Must(t, route.Read, "creds/ro", nil)
	if one.Text != two.Text {
		t.Errorf("first %s, then %s", one.Data["username"], two.Data["username"])
	}
}

func TestRSAPrivateKey(t *testing.T) {
	w := ready(t, enginetest.Config{})
	keyed := fields{"credential_type": "rsa_private_key",
		"creation_statements": []string{"CREATE", "KEY {{public_key}}"}}
	for _, tt := range []struct {
		config fields
		bits   int
	}{{fields{}, 2048}, {fields{"key_bits": 3072, "format": "pkcs8"}, 3072}} {
		w.Must(t, route.Write, "roles/ro", with(with(ro, keyed), fields{"credential_config": tt.config}))
		a := w.Must(t, route.Read, "creds/ro", nil)
		block, _ := pem.Decode([]byte(a.Data["rsa_private_key"].(string)))
		if block == nil || block.Type != "PRIVATE KEY" {
			t.Fatalf("answer %v", a.Data)
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got := key.(*rsa.PrivateKey); got.N.BitLen() != tt.bits {
			t.Errorf("%d bits, want %d", got.N.BitLen(), tt.bits)
		}
		if told := w.fake.Key(a.Data["username"].(string)); told.Public != bodyOf(t, key.(*rsa.PrivateKey).Public()) ||
			told.Subject != "" {
			t.Errorf("the database was told %+v", told)
		}
		if a.Data["password"] != nil ||
			strings.Contains(w.log.String(), strings.Split(a.Data["rsa_private_key"].(string), "\n")[1]) {
			t.Errorf("a password %v, or the key is in the log", a.Data["password"])
		}
	}
	w.want(2, 2)
	if a := w.Must(t, route.Read, "roles/ro", nil); !cmp.Equal(a.Data["credential_config"],
		any(fields{"key_bits": "3072", "format": "pkcs8"})) {
		t.Errorf("config %v", a.Data["credential_config"])
	}
}

func TestCredentialsRefused(t *testing.T) {
	w := ready(t, enginetest.Config{})
	w.Must(t, route.Write, "config/plain", with(prod, fields{"plugin_name": "other-database-plugin"}))
	role := certRole(t, time.Hour)
	config := role["credential_config"].(fields)
	cert := func(more fields) fields { return with(role, fields{"credential_config": with(config, more)}) }
	key := with(ro, fields{"credential_type": "rsa_private_key", "creation_statements": "CREATE {{public_key}}"})
	_, otherKey := authority(t, time.Hour, nil)
	plain, plainKey := authority(t, time.Hour, func(c *x509.Certificate) { c.IsCA = false })
	weak, weakKey := authority(t, time.Hour, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign })
	old, oldKey := authority(t, -time.Second, nil)
	for _, tt := range []struct {
		body fields
		want string
	}{
		{with(ro, fields{"credential_type": "kerberos"}), `field "credential_type": there is no "kerberos"`},
		{with(key, fields{"credential_config": fields{"key_bits": 1024}}),
			"the value of key_bits is not supported; give one of 2048, 3072, 4096"},
		{with(key, fields{"credential_config": fields{"format": "pkcs1"}}),
			"the value of format is not supported; give one of pkcs8"},
		{with(key, fields{"credential_config": fields{"ca_cert": "x"}}),
			`there is no "ca_cert" for credential_type rsa_private_key`},
		{with(key, fields{"creation_statements": "CREATE"}), "by {{public_key}}"},
		{with(key, fields{"creation_statements": "CREATE {{public_key}} {{password}}"}),
			"{{password}} cannot be used"},
		{with(key, fields{"revocation_statements": "DROP {{subject}}"}),
			"{{subject}} is the subject of a certificate"},
		{with(key, fields{"db_name": "plain"}), "users of other cannot log in with rsa_private_key"},
		{with(ro, fields{"creation_statements": "CREATE {{public_key}}"}),
			"cannot be used with credential_type password"},
		{with(role, fields{"db_name": "plain"}), "users of other cannot log in with client_certificate"},
		{with(role, fields{"renew_statements": "RENEW {{password}}"}), "{{password}} cannot be used"},
		{cert(fields{"ca_cert": nil}), "ca_cert is required"},
		{cert(fields{"ca_cert": "none"}), "ca_cert has text that is not a certificate"},
		{cert(fields{"ca_cert": otherKey}), "is not a certificate in PEM form"},
		{cert(fields{"ca_private_key": nil}), "ca_private_key is required"},
		{cert(fields{"ca_private_key": "none"}), "ca_private_key cannot be read: there is no private key"},
		{cert(fields{"ca_private_key": strings.ReplaceAll(otherKey, "PRIVATE", "ENCRYPTED PRIVATE")}),
			"it is encrypted"},
		{cert(fields{"ca_private_key": otherKey}), "not the key of the first certificate"},
		{cert(fields{"ca_cert": plain, "ca_private_key": plainKey}), "not the certificate of an authority"},
		{cert(fields{"ca_cert": weak, "ca_private_key": weakKey}), "not the certificate of an authority"},
		{cert(fields{"ca_cert": old, "ca_private_key": oldKey}), "ca_cert expired at"},
		{cert(fields{"key_type": nil}), "key_type is required"},
		{cert(fields{"key_type": "dsa"}), "the value of key_type is not supported; give one of rsa, ec, ed25519"},
		{cert(fields{"key_bits": 2048}), "the value of key_bits is not supported; give one of 256, 384, 521"},
		{cert(fields{"signature_bits": 1}), "the value of signature_bits is not supported; give one of 256, 384, 512"},
		{cert(fields{"MIGHAgEAMBMGByqGSM49": "x"}), "there is no option of that name"},
		{cert(fields{"password_policy": "x"}), `there is no "password_policy"`},
	} {
		w.Refused(t, route.Write, "roles/app-bad", tt.body, fault.Invalid, tt.want)
	}
	// What is not known when the role is written is found when it is used.
	w.Must(t, route.Write, "roles/app-later", with(key, fields{"db_name": "later"}))
	w.Must(t, route.Write, "config/later", with(prod, fields{"plugin_name": "other-database-plugin"}))
	w.Refused(t, route.Read, "creds/app-later", nil, fault.Invalid,
		"users of other cannot log in with rsa_private_key")
	if a := w.Must(t, route.Write, "roles/app-long",
		with(role, fields{"max_ttl": nil, "default_ttl": nil})); len(a.Warnings) != 1 ||
		!strings.Contains(a.Warnings[0], "without max_ttl") {
		t.Errorf("warnings %q", a.Warnings)
	}
	w.want(0, 0)
}

// Text beside the certificates would be shown again: a key that was indented, and so is no block
// to a PEM decoder, is refused.
func TestCACertHoldsNothingElse(t *testing.T) {
	w := ready(t, enginetest.Config{})
	cert, key := authority(t, 1000*time.Hour, nil)
	indented := "  " + strings.ReplaceAll(key, "\n", "\n  ")
	for _, text := range []string{cert + indented, indented + "\n" + cert, cert + "junk", cert + key,
		"-----BEGIN CERTIFICATE-----\nbroken\n" + cert} {
		role := with(certRole(t, time.Hour),
			fields{"credential_config": fields{"ca_cert": text, "ca_private_key": key, "key_type": "ec"}})
		w.Refused(t, route.Write, "roles/odd", role, fault.Invalid, "ca_cert has ")
	}
	w.Must(t, route.Write, "roles/even", with(certRole(t, time.Hour),
		fields{"credential_config": fields{"ca_cert": "\n" + cert + "\n\n" + cert, "ca_private_key": key,
			"key_type": "ec"}}))
}

// An authority that is not in force yet signs nothing, and the size of a key that has one size
// does not matter.
func TestAuthoritiesAndKeysThatAreTaken(t *testing.T) {
	w := ready(t, enginetest.Config{})
	cert, key := authority(t, 24*time.Hour,
		func(root *x509.Certificate) { root.NotBefore = time.Now().Add(time.Hour) })
	early := fields{"ca_cert": cert, "ca_private_key": key, "key_type": "ec"}
	w.Refused(t, route.Write, "roles/ro", with(certRole(t, time.Hour), fields{"credential_config": early}),
		fault.Invalid, "ca_cert is valid only from")
	role := certRole(t, 24*time.Hour)
	role["credential_config"] = with(role["credential_config"].(fields),
		fields{"key_type": "ed25519", "key_bits": "1234"})
	w.Must(t, route.Write, "roles/ro", role)
	w.Must(t, route.Read, "creds/ro", nil)
}
