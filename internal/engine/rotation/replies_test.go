package rotation_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// The requests of a rotation and their replies are kept with it, and no secret with them: neither
// the admin credential that is sent, nor the new key that comes back. In the store as it lies on
// the disk, and in every row but those of secrets, the new key is not to be found.
func TestReplies(t *testing.T) {
	bubble(t, func(w *world) {
		w.must(route.Write, "keys/demo", basic(nil))
		w.until(rotate.Scheduled)
		w.after(time.Hour)
		key := w.value()
		if key == "" {
			t.Fatal("nothing is published")
		}
		out := w.must(route.Read, "keys/demo/history", map[string]any{"steps": "true", "rotation": "1"})
		b, err := json.Marshal(out["steps"])
		if err != nil {
			t.Fatal(err)
		}
		var rows []rotate.JournalRow
		if err := json.Unmarshal(b, &rows); err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, row := range rows {
			for _, x := range row.Requests {
				seen[x.Step] = x.Status
				if x.Method == "" || x.Host == "" || x.Path == "" || x.At.IsZero() {
					t.Errorf("incomplete: %+v", x)
				}
			}
		}
		if seen["create"] != 201 {
			t.Errorf("kept: %v", seen)
		}
		all, err := json.Marshal(w.must(route.Read, "keys/demo/history", map[string]any{"steps": true}))
		if err != nil || strings.Contains(string(all), `"requests"`) {
			t.Errorf("replies of all rotations at once: %s, %v", all, err)
		}
		if _, err := w.do(route.Read, "keys/demo/history", map[string]any{"rotation": 9}); err == nil {
			t.Error("a rotation that never was has a history")
		}
		for e, err := range w.View.Scan(t.Context(), "mount/", storage.PrefixEnd("mount/")) {
			if err != nil {
				t.Fatal(err)
			}
			if text := string(e.Value); !strings.HasPrefix(e.Key, "mount/m/s/") &&
				(strings.Contains(text, key) || strings.Contains(text, adminToken)) {
				t.Errorf("the row %s holds a secret: %s", e.Key, text)
			}
		}
		for e, err := range w.store.Scan(t.Context(), "", storage.PrefixEnd("mount/")) {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(e.Value), key) || strings.Contains(string(e.Value), adminToken) {
				t.Errorf("the row %s holds a secret that is not sealed", e.Key)
			}
		}
		if text := string(b) + string(all) + w.logged.String(); strings.Contains(text, key) ||
			strings.Contains(text, adminToken) {
			t.Error("an output holds a secret")
		}
	})
}
