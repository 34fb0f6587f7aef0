package keyserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const admin = "admin-token"

func TestAPI(t *testing.T) {
	s := New(Config{AdminToken: admin, MaxKeys: 3})
	ask := func(token, method, path, body string, want int) map[string]any {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code != want {
			t.Fatalf("%s %s: got %d %s, want %d", method, path, w.Code, w.Body, want)
		}
		var out map[string]any
		if w.Body.Len() > 0 {
			if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	ask("wrong", "POST", "/v1/keys", `{"label":"a"}`, 401)
	ask(admin, "POST", "/v1/keys", `not json`, 400)
	made := ask(admin, "POST", "/v1/keys", `{"label":"a"}`, 201)
	id, key := made["id"].(string), made["secret"].(string)
	ask(key, "GET", "/v1/keys", "", 401)
	if who := ask(key, "GET", "/v1/whoami", "", 200); who["label"] != "a" {
		t.Errorf("whoami says %v", who)
	}
	ask(admin, "POST", "/v1/keys", `{"label":"b"}`, 201)
	ask(admin, "POST", "/v1/keys", `{"label":"c"}`, 201)
	ask(admin, "POST", "/v1/keys", `{"label":"d"}`, 409)

	first := ask(admin, "GET", "/v1/keys?limit=2", "", 200)
	second := ask(admin, "GET", "/v1/keys?limit=2&after="+first["next"].(string), "", 200)
	if n, m := len(first["keys"].([]any)), len(second["keys"].([]any)); n != 2 || m != 1 || second["next"] != nil {
		t.Errorf("pages of %d and %d keys, then %v; want 2, 1 and no next", n, m, second["next"])
	}
	one := ask(admin, "GET", "/v1/keys/"+id, "", 200)
	if one["last_used_at"] == nil || one["disabled"] != false {
		t.Errorf("a used key is shown as %v", one)
	}
	if strings.Contains(fmt.Sprint(first, second, one), key) {
		t.Error("a listing shows a secret")
	}
	ask(admin, "POST", "/v1/keys/"+id+"/disable", "", 204)
	ask(key, "GET", "/v1/whoami", "", 401)
	ask(admin, "POST", "/v1/keys/"+id+"/enable", "", 204)
	ask(key, "GET", "/v1/whoami", "", 200)
	ask(admin, "DELETE", "/v1/keys/"+id, "", 204)
	ask(admin, "DELETE", "/v1/keys/"+id, "", 404)
	ask(key, "GET", "/v1/whoami", "", 401)
	if stats := s.Stats(); stats.Refused != 2 || stats.Calls[Use] != 4 || len(s.Live()) != 2 || len(s.Issued()) != 3 {
		t.Errorf("got %+v, %d live, %d issued", stats, len(s.Live()), len(s.Issued()))
	}
}

func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		s := New(Config{AdminToken: admin, ActiveAfter: time.Minute, DeadAfter: time.Second})
		k, _ := s.Create(ctx, admin, "a")
		if _, err := s.Use(ctx, k.Secret); err == nil {
			t.Error("a key works before its time")
		}
		time.Sleep(time.Minute)
		if _, err := s.Use(ctx, k.Secret); err != nil {
			t.Error(err)
		}
		s.Delete(ctx, admin, k.ID)
		if _, err := s.Use(ctx, k.Secret); err != nil {
			t.Error("a deleted key stopped at once")
		}
		time.Sleep(time.Second)
		if _, err := s.Use(ctx, k.Secret); err == nil {
			t.Error("a deleted key works on")
		}
	})
}

func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{AdminToken: admin})
		create := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := s.Create(ctx, admin, "a")
			synctest.Wait()
			return err
		}
		count := func(want int) {
			t.Helper()
			if got := len(s.Live()); got != want {
				t.Errorf("got %d keys, want %d", got, want)
			}
		}
		s.Inject(Fault{Call: Create, Mode: Before, Err: ErrBusy, Times: 2})
		s.Inject(Fault{Call: Create, Mode: After})
		s.Inject(Fault{Call: Create, Mode: Hang})
		s.Inject(Fault{Call: Create, Mode: Late, Delay: time.Minute})
		for i, want := range []struct {
			err  error
			keys int
		}{{ErrBusy, 0}, {ErrBusy, 0}, {ErrCut, 1}, {ErrCut, 1}, {ErrCut, 1}, {nil, 2}} {
			if err := create(); !errors.Is(err, want.err) {
				t.Errorf("call %d: got %v, want %v", i, err, want.err)
			}
			count(want.keys)
		}
		if got := s.Stats().Pending; got != 1 {
			t.Errorf("%d effects pending, want 1", got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		count(3)

		s.Inject(Fault{Call: List, Mode: Lag, Delay: time.Hour})
		if keys, err := s.List(t.Context(), admin); err != nil || len(keys) != 0 {
			t.Errorf("a lagging list shows %d keys, %v; want none", len(keys), err)
		}
		if keys, _ := s.List(t.Context(), admin); len(keys) != 3 {
			t.Errorf("the next list shows %d keys, want 3", len(keys))
		}
		s.Inject(Fault{Call: List, Mode: Before, Times: -1})
		s.List(t.Context(), admin)
		if _, err := s.List(t.Context(), admin); !errors.Is(err, ErrCut) {
			t.Errorf("a lasting fault: got %v", err)
		}
		s.Heal()
		if _, err := s.List(t.Context(), admin); err != nil {
			t.Errorf("healed: got %v", err)
		}
	})
}

// TestCutConnection checks with real sockets that a cut reply has no status.
func TestCutConnection(t *testing.T) {
	s := New(Config{AdminToken: admin})
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	s.Inject(Fault{Call: Create, Mode: After})
	r, _ := http.NewRequestWithContext(t.Context(), "POST", server.URL+"/v1/keys", strings.NewReader(`{"label":"a"}`))
	r.Header.Set("Authorization", "Bearer "+admin)
	if reply, err := http.DefaultClient.Do(r); err == nil {
		t.Errorf("got status %d, want a cut connection", reply.StatusCode)
	}
	if len(s.Live()) != 1 {
		t.Errorf("got %d keys, want the one whose reply was lost", len(s.Live()))
	}
}
