package inprocess_test

import (
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/internal/server/httpapi"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// goClient returns HashiCorp's client of a server.
func goClient(t *testing.T) *api.Client {
	t.Helper()
	s := start(t, memory.Open())
	h := httptest.NewServer(httpapi.New(httpapi.Config{Backend: httpapi.Backend{Handle: s.Handle}}))
	t.Cleanup(h.Close)
	c, err := api.NewClient(&api.Config{Address: h.URL, Timeout: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(s.root)
	return c
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTuneByTheGoClient checks that "" keeps a TTL, because MountConfigInput has no pointers for
// its TTLs, and the client sends "" with every tune. Once, a new description raised a limit from
// an hour to 32 days.
func TestTuneByTheGoClient(t *testing.T) {
	c := goClient(t)
	for _, path := range []string{"m", "auth/token"} {
		t.Run(path, func(t *testing.T) {
			if path == "m" {
				ok(t, c.Sys().Mount(path, &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}))
			}
			full := api.MountConfigInput{
				DefaultLeaseTTL: "30m", MaxLeaseTTL: "1h", AuditNonHMACRequestKeys: []string{"a"},
				AuditNonHMACResponseKeys: []string{"b"},
				ListingVisibility:        "unauth", PassthroughRequestHeaders: []string{"x-a"},
				AllowedResponseHeaders: []string{"x-b"}, TokenType: "default-service",
			}
			ok(t, c.Sys().TuneMount(path, full))
			tuned := func() map[string]any {
				return must[*api.Secret](t)(c.Logical().Read("sys/mounts/" + path + "/tune")).Data
			}
			before := tuned()
			if got := must[*api.MountConfigOutput](t)(c.Sys().MountConfig(path)); got.DefaultLeaseTTL != 1800 ||
				got.MaxLeaseTTL != 3600 {
				t.Fatalf("tuned to %+v", got)
			}

			hi := "hi"
			ok(t, c.Sys().TuneMount(path, api.MountConfigInput{Description: &hi}))
			before["description"] = "hi"
			if d := cmp.Diff(before, tuned()); d != "" {
				t.Errorf("a tune of the description alone changed more:\n%s", d)
			}

			ok(t, c.Sys().TuneMount(path, api.MountConfigInput{DefaultLeaseTTL: "system"}))
			if got := must[*api.MountConfigOutput](t)(c.Sys().MountConfig(path)); got.DefaultLeaseTTL != 3600 ||
				got.MaxLeaseTTL != 3600 {
				t.Errorf("default_lease_ttl=system: %d of at most %d, want the server's within the mount's maximum",
					got.DefaultLeaseTTL, got.MaxLeaseTTL)
			}
			for _, none := range []string{"0", "0s", "system"} {
				ok(t, c.Sys().TuneMount(path, api.MountConfigInput{MaxLeaseTTL: "1h"}))
				ok(t, c.Sys().TuneMount(path, api.MountConfigInput{MaxLeaseTTL: none}))
				if got := must[*api.MountConfigOutput](t)(c.Sys().MountConfig(path)); got.MaxLeaseTTL != 768*3600 {
					t.Errorf("max_lease_ttl=%s: %d, want the server's", none, got.MaxLeaseTTL)
				}
			}
			ok(t, c.Sys().TuneMountAllowNil(path, api.TuneMountConfigInput{}))
			empty := ""
			ok(t, c.Sys().TuneMountAllowNil(path,
				api.TuneMountConfigInput{Description: &empty, DefaultLeaseTTL: &empty}))
			if got := tuned(); got["description"] != "" || !cmp.Equal(got["audit_non_hmac_request_keys"], []any{"a"}) {
				t.Errorf("a description that is cleared: %+v", got)
			}
		})
	}
}

// TestZeroFieldsByTheGoClient checks that a zero field of the client's type for mounts changes
// nothing.
func TestZeroFieldsByTheGoClient(t *testing.T) {
	c := goClient(t)
	ok(t, c.Sys().Mount("m", &api.MountInput{Type: "kv", Description: "d",
		Config: api.MountConfigInput{DefaultLeaseTTL: "5m", MaxLeaseTTL: "10m"}}))
	before := must[*api.MountOutput](t)(c.Sys().GetMount("m"))
	if before.Config.DefaultLeaseTTL != 300 || before.Config.MaxLeaseTTL != 600 || before.Options != nil {
		t.Fatalf("mounted as %+v", before)
	}
	typ := reflect.TypeFor[api.MountConfigInput]()
	for i := range typ.NumField() {
		var in api.MountConfigInput
		if f := reflect.ValueOf(&in).Elem().Field(i); f.Kind() == reflect.Map {
			f.Set(reflect.MakeMap(f.Type())) // {} in addition to null
		}
		ok(t, c.Sys().TuneMount("m", in))
		if d := cmp.Diff(before, must[*api.MountOutput](t)(c.Sys().GetMount("m"))); d != "" {
			t.Errorf("%s as its zero value:\n%s", typ.Field(i).Name, d)
		}
	}
	// Enabling sends all fields of the same type.
	ok(t, c.Sys().Mount("n", &api.MountInput{Type: "kv"}))
	if got := must[*api.MountOutput](t)(c.Sys().GetMount("n")); got.Config.DefaultLeaseTTL != 0 ||
		got.Config.MaxLeaseTTL != 0 {
		t.Errorf("a mount of nothing but a type: %+v", got)
	}
}

// TestMetadataByTheGoClient checks that PutMetadata sends all fields, whose zero values mean "not
// configured", and that PatchMetadata sends only the fields that are set.
func TestMetadataByTheGoClient(t *testing.T) {
	c, ctx := goClient(t), t.Context()
	ok(t, c.Sys().Mount("m", &api.MountInput{Type: "kv-v2"}))
	kv := c.KVv2("m")
	must[*api.KVSecret](t)(kv.Put(ctx, "a", map[string]any{"k": "v"}))
	ok(t, kv.PutMetadata(ctx, "a",
		api.KVMetadataPutInput{CASRequired: true, MaxVersions: 3, DeleteVersionAfter: time.Hour,
			CustomMetadata: map[string]any{"o": "w", "p": "q"}}))

	seven := 7
	ok(t, kv.PatchMetadata(ctx, "a",
		api.KVMetadataPatchInput{MaxVersions: &seven, CustomMetadata: map[string]any{"p": nil}}))
	m := must[*api.KVMetadata](t)(kv.GetMetadata(ctx, "a"))
	if m.MaxVersions != 7 || !m.CASRequired || m.DeleteVersionAfter != time.Hour ||
		!cmp.Equal(m.CustomMetadata, map[string]any{"o": "w"}) {
		t.Errorf("patched: %+v", m)
	}
	ok(t, kv.PutMetadata(ctx, "a", api.KVMetadataPutInput{}))
	m = must[*api.KVMetadata](t)(kv.GetMetadata(ctx, "a"))
	if m.MaxVersions != 0 || m.CASRequired || m.DeleteVersionAfter != 0 || m.CustomMetadata != nil {
		t.Errorf("put with nothing set: %+v", m)
	}
	must[*api.KVSecret](t)(kv.Put(ctx, "a", map[string]any{"k": "w"}, api.WithCheckAndSet(1)))
}

// TestTokenByTheGoClient checks a token request, which has fields without omitempty that are sent
// empty.
func TestTokenByTheGoClient(t *testing.T) {
	c := goClient(t)
	s := must[*api.Secret](t)(c.Auth().Token().Create(&api.TokenCreateRequest{TTL: "1h"}))
	if s.Auth == nil || s.Auth.LeaseDuration != 3600 || !s.Auth.Renewable {
		t.Errorf("auth: %+v", s.Auth)
	}
	for _, body := range []map[string]any{{"renewable": nil}, {"renewable": ""},
		{"ttl": nil, "period": "", "num_uses": "", "type": nil, "explicit_max_ttl": nil}} {
		if s := must[*api.Secret](t)(c.Logical().Write("auth/token/create", body)); s.Auth == nil ||
			s.Auth.LeaseDuration != 768*3600 && s.Auth.LeaseDuration != 0 {
			t.Errorf("%v: %+v", body, s.Auth)
		} else if s := must[*api.Secret](t)(c.Logical().Write("auth/token/create",
			map[string]any{"ttl": "1h", "renewable": body["renewable"]})); !s.Auth.Renewable {
			t.Errorf("renewable %v: the token is not, although that is the default", body["renewable"])
		}
	}
}
