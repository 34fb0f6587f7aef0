package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A teller answers the requests of a client without a server.
type teller func(r *http.Request) (status int, body any, err error)

func (t teller) RoundTrip(r *http.Request) (*http.Response, error) {
	status, body, err := t(r)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprint(status, " ", http.StatusText(status)),
		Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(text))), Request: r,
	}, nil
}

func (t teller) client() *client {
	return &client{url: "http://127.0.0.1:1", token: "a-token", http: &http.Client{Transport: t}}
}

// history is the server's answer about the rotations of the key.
func history(steps ...step) map[string]any {
	return map[string]any{"data": map[string]any{"rotations": []turn{}, "steps": steps}}
}

func TestJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := []step{
			{What: "begun", Turn: 1}, {What: "done", Turn: 1}, {What: "rotate-now", Turn: 2},
			{What: "created", Turn: 2},
			{What: "published", Turn: 2}, {What: "done", Turn: 2},
		}
		began := time.Now()
		server := teller(func(*http.Request) (int, any, error) {
			n := int(time.Since(began) / time.Second) // one step each second
			if n == 4 {
				return 0, nil, errors.New("connection refused") // the server is down for a while
			}
			return 200, history(all[:min(n, len(all))]...), nil
		})
		var heard []string
		j := &journal{server: server.client, heard: func(s step) { heard = append(heard, fmt.Sprint(s.Turn, s.What)) }}
		for _, want := range []struct {
			turn int
			what string
		}{{1, "done"}, {2, "created"}, {2, "done"}} {
			if err := j.until(t.Context(), want.turn, want.what); err != nil {
				t.Fatalf("turn %d until %q: %v", want.turn, want.what, err)
			}
			if last, w := heard[len(heard)-1], fmt.Sprint(want.turn, want.what); last != w {
				t.Errorf("heard %q last, want %q", last, w)
			}
		}
		want := []string{"1begun", "1done", "2rotate-now", "2created", "2published", "2done"}
		if diff := cmp.Diff(want, heard); diff != "" {
			t.Error(diff)
		}
	})
}

func TestJournalStops(t *testing.T) {
	for name, c := range map[string]struct {
		server teller
		want   string
	}{
		"given up": {
			func(*http.Request) (int, any, error) {
				return 200, history(
					step{What: "gave-up", Turn: 1, More: map[string]string{"alert": "the provider refuses"}}), nil
			},
			"the provider refuses",
		},
		"too slow": {func(*http.Request) (int, any, error) { return 200, history(), nil },
			`rotation 1 was not "done" within 2m0s`},
		"dead": {func(*http.Request) (int, any, error) { return 0, nil, errors.New("connection refused") },
			"connection refused"},
		"refusing": {
			func(*http.Request) (int, any, error) {
				return 403, map[string]any{"errors": []string{"permission denied"}}, nil
			},
			"permission denied",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				j := &journal{server: c.server.client, heard: func(step) {}}
				err := j.until(t.Context(), 1, "done")
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q in it", err, c.want)
				}
			})
		})
	}
}

func TestReadKey(t *testing.T) {
	answer := map[string]any{"data": map[string]any{
		"data":     map[string]any{"api_key": "s3cret"},
		"metadata": map[string]any{"version": 3, "custom_metadata": map[string]string{"key_id": "key_A"}},
		"ttl":      1, "rotation_period": 3600,
	}}
	var asked *http.Request
	s := &stage{reader: teller(
		func(r *http.Request) (int, any, error) { asked = r; return 200, answer, nil }).client()}
	got, err := s.readKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (reading{"s3cret", "key_A", 3, time.Second}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if asked.URL.Path != "/v1/"+secretPath || asked.Header.Get("X-Vault-Token") != "a-token" {
		t.Errorf("asked %s with token %q", asked.URL, asked.Header.Get("X-Vault-Token"))
	}
	answer["data"] = map[string]any{"data": map[string]any{}}
	if _, err := s.readKey(t.Context()); err == nil {
		t.Error("an answer without a key was taken")
	}
}
