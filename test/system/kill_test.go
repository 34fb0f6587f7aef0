//go:build integration

package system

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

const (
	killWriters = 6
	killKeys    = 16 // keys of each writer
	// kept is the default number of versions of KV.
	kept = 10
)

// TestKill kills the server repeatedly while clients write. After each restart every acknowledged
// write exists with its value, nothing exists that was not written, and check-and-set never lets
// two writers win.
func TestKill(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 20
	}
	s := harness.Ready(t, harness.Options{Level: "warn"})
	root := s.Client(s.Root)
	root.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "2"}})
	log := filepath.Join(s.Dir, "audit.log")
	root.Must(t, "PUT", "sys/audit/file", object{"type": "file", "options": object{"file_path": log}})
	root.Must(t, "PUT", "kv/config", object{"max_versions": kept})
	root.Must(t, "PUT", "kv/data/counter", object{"data": object{"n": 1}})

	writers := make([]*writer, killWriters)
	for i := range writers {
		writers[i] = &writer{client: s.Client(s.Root), name: fmt.Sprintf("w%d", i), keys: map[string]*history{},
			tokens: map[string]bool{}}
	}
	counter := &counter{client: s.Client(s.Root), acked: 1}
	random := rand.New(rand.NewPCG(1, uint64(rounds)))
	for round := range rounds {
		hammer(t, s, writers, counter, random)
		if err := errors.Join(s.Launch(), s.Serves()); err != nil {
			t.Fatalf("round %d: starting again: %v", round, err)
		}
		for _, w := range writers {
			w.verify(t, round == rounds-1)
		}
		counter.verify(t)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	acked := 0
	for _, w := range writers {
		acked += w.acked
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(bytes.NewReader(text))
	if err != nil || !report.OK() {
		t.Errorf("the audit log is no chain after the kills: %v %v", report.Problems, err)
	}
	t.Logf("%d kills, %d acknowledged writes, counter at %d, %d audit lines (%d torn)", rounds, acked, counter.acked,
		report.Lines, report.Torn)
	if acked < rounds*20 {
		t.Errorf("only %d writes were acknowledged in %d rounds: the test tests nothing", acked, rounds)
	}
}

// hammer lets all writers write until a number of writes is acknowledged, and kills the server
// meanwhile. One time in eight it kills the server again during its start.
func hammer(t *testing.T, s *harness.Server, writers []*writer, c *counter, random *rand.Rand) {
	t.Helper()
	var left atomic.Int64
	left.Store(1 + random.Int64N(400))
	enough := make(chan struct{})
	ack := func() {
		if left.Add(-1) == 0 {
			close(enough)
		}
	}
	var wg sync.WaitGroup
	for _, w := range writers {
		seed := random.Uint64()
		wg.Go(func() { w.run(rand.New(rand.NewPCG(seed, 2)), ack) })
	}
	wg.Go(func() { c.run(ack) })
	select {
	case <-enough:
	case <-time.After(await.Patience):
		t.Error("the server does not acknowledge writes")
	}
	s.Kill()
	wg.Wait()
	if random.IntN(8) > 0 {
		return
	}
	if err := s.Launch(); err != nil {
		t.Fatal(err)
	}
	<-time.After(time.Duration(random.IntN(60)) * time.Millisecond) // at any moment of the start
	s.Kill()
}

// A history is what a writer knows of a key.
type history struct {
	current int64            // the last certain version
	values  map[int64]string // by version
	doubt   string           // written, but not acknowledged
}

// A writer has keys and tokens of its own.
type writer struct {
	client  *harness.Client
	name    string
	keys    map[string]*history
	touched map[string]bool // since the last verify
	tokens  map[string]bool // accepted tokens; false if revoked
	fresh   []string        // tokens since the last verify
	acked   int
	n       int
}

// run writes until the server is gone.
func (w *writer) run(random *rand.Rand, ack func()) {
	w.touched, w.fresh = map[string]bool{}, nil
	for {
		var err error
		if random.IntN(10) == 0 {
			err = w.token(random)
		} else {
			err = w.write(random)
		}
		if err != nil {
			w.client.HTTP.CloseIdleConnections()
			return
		}
		w.acked++
		ack()
	}
}

func (w *writer) write(random *rand.Rand) error {
	key := fmt.Sprintf("kv/data/%s/k%d", w.name, random.IntN(killKeys))
	h := w.keys[key]
	if h == nil {
		h = &history{values: map[int64]string{}}
		w.keys[key] = h
	}
	w.n++
	w.touched[key] = true
	h.doubt = fmt.Sprintf("%s-%d-%x", w.name, w.n, random.Uint64())
	body := object{"data": object{"value": h.doubt, "pad": string(bytes.Repeat([]byte("p"), random.IntN(2000)))}}
	if random.IntN(2) == 0 {
		body["options"] = object{"cas": h.current}
	}
	a, err := w.client.Do("POST", key, body)
	if err != nil {
		return err
	}
	if a.Status != 200 {
		return fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	h.current = a.Int("data", "version")
	h.values[h.current], h.doubt = h.doubt, ""
	return nil
}

// token creates a token, or revokes an earlier one.
func (w *writer) token(random *rand.Rand) error {
	if len(w.fresh) > 3 && random.IntN(2) == 0 {
		i := random.IntN(len(w.fresh))
		token := w.fresh[i]
		// Until the answer, the state of the token is uncertain.
		delete(w.tokens, token)
		w.fresh = append(w.fresh[:i:i], w.fresh[i+1:]...)
		a, err := w.client.Do("POST", "auth/token/revoke", object{"token": token})
		if err == nil && a.Status == 204 {
			w.tokens[token] = false
		}
		return err
	}
	a, err := w.client.Do("POST", "auth/token/create",
		object{"policies": []string{"default"}, "ttl": "1h", "meta": object{"by": w.name}})
	if err != nil {
		return err
	}
	if token := a.Text("auth", "client_token"); token != "" {
		w.tokens[token] = true
		w.fresh = append(w.fresh, token)
		return nil
	}
	return fmt.Errorf("status %d: %s", a.Status, a.Body)
}

// verify reads what was written since the last time, or all.
func (w *writer) verify(t *testing.T, all bool) {
	t.Helper()
	for key, h := range w.keys {
		if all || w.touched[key] {
			w.verifyKey(t, key, h)
		}
	}
	for token, lives := range w.tokens {
		if !all && len(w.tokens) > 40 && rand.IntN(len(w.tokens)) > 40 { // a sample; all at the end
			continue
		}
		want := 403
		if lives {
			want = 200
		}
		a, err := w.client.As(token).Do("GET", "auth/token/lookup-self", nil)
		if err != nil || a.Status != want {
			t.Errorf("a token that was acknowledged (alive: %t): %v, %s", lives, err, body(a))
		} else if lives && a.Text("data", "meta", "by") != w.name {
			t.Errorf("a token of %s: %s", w.name, a.Body)
		}
	}
}

func (w *writer) verifyKey(t *testing.T, key string, h *history) {
	t.Helper()
	now, value, ok := w.read(t, key, 0)
	switch {
	case h.current == 0 && h.doubt == "" && !ok:
		return
	case !ok && h.current == 0:
		h.doubt = "" // the write had no effect
		return
	case now == h.current:
		h.doubt = ""
	case now == h.current+1 && h.doubt != "": // the write was stored, but its answer was lost
		h.values[now], h.current, h.doubt = h.doubt, now, ""
	default:
		t.Errorf("%s: version %d, acknowledged was %d, in doubt %q", key, now, h.current, h.doubt)
		return
	}
	if want := h.values[now]; value != want {
		t.Errorf("%s version %d: %q, want %q", key, now, value, want)
	}
	for version := max(1, now-kept+1); version < now; version++ {
		if _, got, _ := w.read(t, key, version); got != h.values[version] {
			t.Errorf("%s version %d: %q, want %q", key, version, got, h.values[version])
		}
	}
}

// read reads a version, or the current one.
func (w *writer) read(t *testing.T, key string, version int64) (current int64, value string, ok bool) {
	t.Helper()
	a, err := w.client.Do("GET", fmt.Sprintf("%s?version=%d", key, version), nil)
	if err != nil {
		t.Errorf("reading %s: %v", key, err)
		return 0, "", false
	}
	if a.Status == 404 {
		return 0, "", false
	}
	if a.Status != 200 {
		t.Errorf("reading %s version %d: %s", key, version, body(a))
		return 0, "", false
	}
	return a.Int("data", "metadata", "version"), a.Text("data", "data", "value"), true
}

func body(a *harness.Answer) string {
	if a == nil {
		return "no answer"
	}
	return fmt.Sprintf("%d %s", a.Status, a.Body)
}

// A counter is incremented with check-and-set by several writers at a time. Each version contains
// its own number.
type counter struct {
	client *harness.Client
	mu     sync.Mutex // guards the rest
	acked  int64      // the highest number acknowledged or read
	won    map[int64]int
}

func (c *counter) run(ack func()) {
	var wg sync.WaitGroup
	c.won = map[int64]int{}
	for range 3 {
		wg.Go(func() {
			for c.increment() == nil {
				ack()
			}
		})
	}
	wg.Wait()
	c.client.HTTP.CloseIdleConnections()
}

func (c *counter) increment() error {
	a, err := c.client.Do("GET", "kv/data/counter", nil)
	if err != nil {
		return err
	}
	n := a.Int("data", "data", "n")
	c.saw(n)
	a, err = c.client.Do("POST", "kv/data/counter", object{"options": object{"cas": n}, "data": object{"n": n + 1}})
	if err != nil {
		return err
	}
	switch {
	case a.Status == 200:
		c.saw(n + 1)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.won[n+1]++
	case a.Status != 400: // 400: another writer was faster
		return errors.New(body(a))
	}
	return nil
}

func (c *counter) saw(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.acked = max(c.acked, n)
}

func (c *counter) verify(t *testing.T) {
	t.Helper()
	a := c.client.Must(t, "GET", "kv/data/counter", nil)
	n, version := a.Int("data", "data", "n"), a.Int("data", "metadata", "version")
	if n < c.acked {
		t.Errorf("the counter is at %d, and somebody had seen %d", n, c.acked)
	}
	if n != version {
		t.Errorf("version %d of the counter holds %d", version, n)
	}
	for number, winners := range c.won {
		if winners != 1 {
			t.Errorf("%d writers won the counter's version %d", winners, number)
		}
	}
	c.acked = n
	meta := c.client.Must(t, "GET", "kv/metadata/counter", nil)
	if got := meta.Int("data", "current_version"); got != version {
		t.Errorf("the counter's metadata says version %d, its data %d", got, version)
	}
}
