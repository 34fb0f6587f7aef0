package recipe

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/engine/rotation/rotationtest"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
	"github.com/keyturn/keyturn/internal/secret"
)

const adminCanary = "admin+canary/57 x"

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// demo is the built-in recipe http-demo.
func demo(t *testing.T) rotation.Definition {
	t.Helper()
	return definition(t, "http-demo")
}

func openDemo(t *testing.T, d rotation.Definition, dial dialFunc) rotation.Source {
	t.Helper()
	s, err := Provider.Open(rotation.OpenConfig{
		Definition: d,
		Params:     map[string]json.RawMessage{"url": json.RawMessage(`"http://127.0.0.1:8300"`)},
		Admin:      map[string]secret.Value{"token": secret.Text(adminCanary)},
		Dial:       dial,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// target is a source as an engine opens it.
type target struct {
	rotation.Source
	can rotate.Capabilities
}

func (t *target) Capabilities() rotate.Capabilities { return t.can }
func (t *target) Settle() rotate.Settle             { return rotate.Settle{} }
func (t *target) Place() *rotate.Place              { return nil }

func TestTargets(t *testing.T) {
	d := demo(t)
	rotatetest.Targets(t, func(t *testing.T) rotatetest.Fixture {
		server := rotationtest.NewVendor(rotationtest.VendorConfig{AdminToken: adminCanary})
		opened := &target{openDemo(t, d, rotationtest.Pipe(t, server.Handler())), d.Can}
		current, err := opened.Create(t.Context(),
			rotate.Order{Marker: rotate.Marker{Installation: "test0001", Key: "current", Turn: 1, Attempt: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return rotatetest.Fixture{
			Open: func(context.Context) (rotate.Target, rotate.Credential, error) { return opened, current, nil },
			Works: func(c rotate.Credential) bool {
				_, err := server.Use(context.Background(), c.Secret["api_key"].RevealString())
				return err == nil
			},
			Hidden: []string{adminCanary}, Break: rotationtest.Breaker(server, time.Minute),
			Live: rotationtest.LiveIDs(server),
		}
	})
}

// definition is a built-in recipe.
func definition(t *testing.T, name string) rotation.Definition {
	t.Helper()
	all, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(d rotation.Definition) bool { return d.Name == name })
	if i < 0 {
		t.Fatalf("there is no recipe %q", name)
	}
	return all[i]
}

// openShape opens a recipe in front of its vendor's API.
func openShape(t *testing.T, shape rotationtest.Shape, vendor *rotationtest.Vendor) (rotation.Source,
	rotation.Definition) {
	t.Helper()
	d := definition(t, shape.Recipe)
	params, admin := map[string]json.RawMessage{}, map[string]secret.Value{}
	for name, v := range shape.Params {
		params[name], _ = json.Marshal(v)
	}
	for _, name := range shape.Admin {
		admin[name] = secret.Text(adminCanary)
	}
	dial, roots := rotationtest.PipeTLS(t, shape.Handler(vendor, adminCanary))
	s, err := Provider.Open(
		rotation.OpenConfig{Definition: d, Params: params, Admin: admin, Dial: dial, Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// TestVendors runs the contract of targets over every built-in recipe, in front of a server that
// answers in the forms of the recipe's vendor.
func TestVendors(t *testing.T) {
	shapes := rotationtest.Shapes()
	all, err := Provider.Definitions()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		i := slices.IndexFunc(shapes, func(s rotationtest.Shape) bool { return s.Recipe == d.Name })
		if i < 0 && d.Name != "http-demo" { // which has TestTargets
			t.Errorf("there is no scripted server for the recipe %q", d.Name)
		}
	}
	for _, shape := range shapes {
		t.Run(shape.Recipe, func(t *testing.T) {
			rotatetest.Targets(t, func(t *testing.T) rotatetest.Fixture {
				vendor := rotationtest.NewVendor(rotationtest.VendorConfig{AdminToken: adminCanary})
				s, d := openShape(t, shape, vendor)
				opened := &target{s, d.Can}
				current, err := opened.Create(t.Context(), rotate.Order{
					Marker: rotate.Marker{Installation: "test0001", Key: "current", Turn: 1, Attempt: 1}})
				if err != nil {
					t.Fatal(err)
				}
				return rotatetest.Fixture{
					Open: func(context.Context) (rotate.Target, rotate.Credential, error) {
						return opened, current, nil
					},
					Works: func(c rotate.Credential) bool {
						_, err := vendor.Use(context.Background(), c.Secret[shape.Secret].RevealString())
						return err == nil
					},
					Hidden: []string{adminCanary}, Break: shape.Breaker(vendor, time.Minute),
					Live: rotationtest.LiveIDs(vendor), NoLimit: shape.NoLimit,
				}
			})
		})
	}
}

// TestPages lists more keys than fit into one page of any vendor.
func TestPages(t *testing.T) {
	for _, shape := range rotationtest.Shapes() {
		vendor := rotationtest.NewVendor(rotationtest.VendorConfig{AdminToken: adminCanary})
		for i := range 1100 {
			if _, err := vendor.Create(t.Context(), adminCanary, fmt.Sprint("key ", i)); err != nil {
				t.Fatal(err)
			}
		}
		s, _ := openShape(t, shape, vendor)
		if all, err := s.List(t.Context()); err != nil || len(all) != 1100 || all[1099].Label != "key 1099" {
			t.Errorf("%s: %d keys, %v", shape.Recipe, len(all), err)
		}
	}
}
