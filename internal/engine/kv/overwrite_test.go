package kv_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/enginetest"
	"github.com/keyturn/keyturn/internal/engine/kv"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// publishedMount is a mount in which the test checks writes of published fields.
type publishedMount struct {
	*fixture
	check func(o engine.Overwrite) error // nil: everything is accepted
	told  []engine.Overwrite
	extra []storage.Op // added to the next commit
}

func openPublished(t *testing.T, st storage.Store) *publishedMount {
	t.Helper()
	h := &publishedMount{}
	h.fixture = &fixture{enginetest.Open(t,
		kv.Type, enginetest.Config{Store: st, Settings: engine.Settings{Options: two}, Host: func(host *engine.Host) {
			host.Overwrite = func(_ context.Context, o engine.Overwrite, commit func([]storage.Op) error) error {
				h.told = append(h.told, o)
				if h.check != nil {
					if err := h.check(o); err != nil {
						return err
					}
				}
				extra := h.extra
				h.extra = nil
				return commit(extra)
			}
		}}), t}
	return h
}

// publishTo marks a path like a key that publishes to it.
func (h *publishedMount) publishTo(path string, hold, giveUp []string) {
	h.t.Helper()
	ops, err := h.Engine.(engine.Versioned).Mark(h.t.Context(), path, hold, giveUp)
	if err != nil {
		h.t.Fatal(err)
	}
	if len(ops) > 0 {
		if _, err := h.View.Commit(h.t.Context(), ops...); err != nil {
			h.t.Fatal(err)
		}
	}
}

// changed returns the published fields that writes have changed since the last call.
func (h *publishedMount) changed() string {
	var all []string
	for _, o := range h.told {
		text := strings.Join(o.Changed, ",")
		if o.Empties {
			text += " emptied; " + o.Remedy
		}
		all = append(all, text)
	}
	h.told = nil
	return strings.Join(all, " | ")
}

func (h *publishedMount) wantChanged(what, want string) {
	h.t.Helper()
	if got := h.changed(); got != want {
		h.t.Errorf("%s: its key was told %q, want %q", what, got, want)
	}
}

// TestOverwriteReported: a key checks writes that change its fields, and no others.
func TestOverwriteReported(t *testing.T) {
	h := openPublished(t, nil)
	h.put("free", "1")
	h.put("free", "2")
	h.Must(t, route.Delete, "data/free", nil)
	h.wantChanged("a path that no key publishes to", "")

	h.publishTo("stripe", []string{"api_key"}, nil)
	if got := h.keys("metadata/"); got != "free" {
		t.Errorf("a path that is held and empty is listed: %s", got)
	}
	if _, n := h.get("stripe"); n != 0 {
		t.Error("a path that is held is a secret")
	}
	h.Must(t, route.Write, "data/stripe", `{"data":{"api_key":"a","note":"x"}}`)
	h.wantChanged("the first write", "api_key")
	h.Must(t, route.Write, "data/stripe", `{"data":{"note":"y","api_key":"a"}}`)
	h.Must(t, route.Patch, "data/stripe", `{"data":{"note":"z"}}`)
	h.Must(t, route.Write, "metadata/stripe", `{"custom_metadata":{"team":"pay"}}`)
	h.wantChanged("fields that are not the key's", "")
	h.Must(t, route.Patch, "data/stripe", `{"data":{"api_key":"b"}}`)
	h.wantChanged("a patch", "api_key")
	for _, null := range []string{`{"data":{"api_key":null}}`, `{"data":{"api_key":["b"]}}`, `{"data":{"note":"x"}}`} {
		h.check = func(engine.Overwrite) error { return fault.New("test", fault.Invalid, "no") }
		if _, err := h.Do(route.Write, "data/stripe", null); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", null, err)
		}
		if f := h.told[0].Fields["api_key"]; !f.Empty() {
			t.Errorf("%s has the key", null)
		}
		h.wantChanged("a write without the key", "api_key")
	}
	if _, n := h.get("stripe"); n != 4 {
		t.Errorf("writes that were refused have made version %d", n)
	}
	h.check = nil
	h.Must(t, route.Delete, "data/stripe", nil)
	h.wantChanged("a deletion", "api_key emptied; kv undelete -versions=4 mount/stripe")
	h.Must(t, route.Delete, "data/stripe", nil)
	h.wantChanged("the same again", "")
	h.Must(t, route.Write, "undelete/stripe", `{"versions":[4]}`)
	h.wantChanged("an undeletion", "api_key")
	h.Must(t, route.Write, "delete/stripe", `{"versions":[1,2]}`)
	h.wantChanged("the deletion of what nobody reads", "")
	h.Must(t, route.Write, "destroy/stripe", `{"versions":[4]}`)
	h.wantChanged("the destruction of the current version", "api_key emptied; ")
	h.Must(t, route.Write, "data/stripe", `{"data":{"api_key":"c"},"options":{"force":true}}`)
	if !h.told[0].Force || h.told[0].Version != 5 || h.told[0].Path != "mount/stripe" {
		t.Errorf("the key was told %+v", h.told[0])
	}
	h.changed()

	h.publishTo("stripe", nil, []string{"api_key"})
	h.put("stripe", "9")
	h.wantChanged("once no key publishes there", "")
}

// TestOverwriteAfterMetadataDelete: a key still publishes to a secret that was deleted for good.
func TestOverwriteAfterMetadataDelete(t *testing.T) {
	h := openPublished(t, nil)
	kv := h.Engine.(engine.Versioned)
	if _, err := kv.Publish(t.Context(), "team/stripe", publication("t1", "sk_1", 0)); err != nil {
		t.Fatal(err)
	}
	h.Must(t, route.Delete, "metadata/team/stripe", nil)
	h.wantChanged("its deletion", "api_key emptied; ")
	if got := h.keys("metadata/") + h.keys("metadata/team"); got != "nonenone" {
		t.Errorf("it is listed: %s", got)
	}
	if _, err := h.Do(route.Read, "metadata/team/stripe", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("its metadata: %v", err)
	}
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"sk_0"},"options":{"cas":0}}`)
	h.wantChanged("a new secret", "api_key")
	h.Must(t, route.Delete, "metadata/team/stripe", nil)
	h.publishTo("team/stripe", nil, []string{"api_key"})
	if h.rows("m/") != 0 || h.rows("v/") != 0 {
		t.Error("a row is left")
	}
}

// TestOverwriteCheckedAgain: a write is checked again if it conflicts with the write of another
// server, or if its key changes meanwhile.
func TestOverwriteCheckedAgain(t *testing.T) {
	st := memory.Open()
	h := openPublished(t, st)
	h.publishTo("stripe", []string{"v"}, nil)
	h.put("stripe", "1")
	other := openPublished(t, st)
	h.changed()
	h.check = func(o engine.Overwrite) error {
		if o.Version == 2 {
			other.put("stripe", "other")
		}
		return nil
	}
	h.put("stripe", "2")
	h.wantChanged("an overtaken write", "v | v")
	h.wantCurrent("stripe", "2", 3)
	h.check = nil
	h.extra = []storage.Op{
		storage.Append("event/", []byte("a key's")), storage.Append("event/", []byte("another key's")),
	}
	h.put("stripe", "2b")
	h.changed()
	h.extra = []storage.Op{storage.Expect("elsewhere", 17)}
	h.put("stripe", "3")
	h.wantChanged("a write whose key has changed", "v | v")
	h.wantCurrent("stripe", "3", 5)
	if got := other.told; !slices.ContainsFunc(got, func(o engine.Overwrite) bool { return o.Version == 2 }) {
		t.Error("another server does not know that the path is held")
	}
}

// TestOverwriteWarnsOnce: warnings of an attempt that conflicted are not sent.
func TestOverwriteWarnsOnce(t *testing.T) {
	st := memory.Open()
	h := openPublished(t, st)
	h.publishTo("stripe", []string{"v"}, nil)
	h.put("stripe", "1")
	other := openPublished(t, st)
	h.check = func(o engine.Overwrite) error {
		o.Warn("judged as version %d", o.Version)
		if o.Version == 2 {
			other.put("stripe", "other")
		}
		return nil
	}
	if got := h.put("stripe", "2").Warnings; !slices.Equal(got, []string{"judged as version 3"}) {
		t.Errorf("the answer warns %q", got)
	}
}

// TestOverwriteOfDamagedVersion: a current version that cannot be read can be overwritten, after
// the key has checked the write.
func TestOverwriteOfDamagedVersion(t *testing.T) {
	st := memory.Open()
	h := openPublished(t, st)
	h.publishTo("stripe", []string{"v"}, nil)
	h.put("stripe", "1")
	for e, err := range st.Scan(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(e.Key, "/v/stripe") {
			e.Value[len(e.Value)-1] ^= 1
			_, err := st.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(e.Key, e.Value)}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := h.Do(route.Read, "data/stripe", nil); !fault.Is(err, fault.Internal) {
		t.Fatalf("reading what is damaged: %v", err)
	}
	h.changed()
	h.put("stripe", "2")
	h.wantChanged("a write over what is damaged", "v")
	h.wantCurrent("stripe", "2", 2)
}

// TestVersionsRead: Versions returns old versions, including soft-deleted ones.
func TestVersionsRead(t *testing.T) {
	h := openPublished(t, nil)
	kv := h.Engine.(engine.Versioned)
	for i, turn := range []string{"t1", "t2", "t3"} {
		if _, err := kv.Publish(t.Context(), "stripe", publication(turn, "sk_"+turn, i)); err != nil {
			t.Fatal(err)
		}
	}
	h.Must(t, route.Delete, "data/stripe", nil)
	h.Must(t, route.Write, "destroy/stripe", `{"versions":[2]}`)
	all, err := kv.Versions(t.Context(), "stripe")
	if err != nil || len(all) != 2 || all[0].Version != 3 || !all[0].Deleted || all[0].Turn != "t3" ||
		all[1].Version != 1 || all[1].Deleted || all[1].Fields["api_key"].RevealString() != "sk_t1" {
		t.Errorf("versions %+v, %v", all, err)
	}
}

// TestOverwriteUpdatesCustomMetadata: the check of a write can set custom metadata, in addition to
// the users', unless the write is refused.
func TestOverwriteUpdatesCustomMetadata(t *testing.T) {
	h := openPublished(t, memory.Open())
	h.publishTo("s", []string{"api_key"}, nil)
	h.Must(t, route.Write, "metadata/s",
		map[string]any{"custom_metadata": map[string]string{"team": "a", "key_id": "k1"}})
	for _, refused := range []bool{true, false} {
		h.check = func(o engine.Overwrite) error {
			o.Custom(map[string]string{"key_id": "k2"})
			if refused {
				return fault.New("test", fault.Invalid, "no")
			}
			return nil
		}
		answer, err := h.Do(route.Write, "data/s", map[string]any{"data": map[string]string{"api_key": "x"}})
		if err == nil && answer.Data["custom_metadata"].(map[string]any)["key_id"] != "k2" {
			t.Errorf("the answer to the write is %v", answer.Data)
		}
		custom := h.Must(t, route.Read, "metadata/s", nil).Data["custom_metadata"].(map[string]any)
		want := map[bool]string{true: "k1", false: "k2"}[refused]
		if (err != nil) != refused || custom["key_id"] != want || custom["team"] != "a" {
			t.Errorf("refused: %v, error %v, custom metadata %v", refused, err, custom)
		}
	}
	h.check = func(o engine.Overwrite) error { o.Custom(map[string]string{"key_id": "k3"}); return nil }
	answer := h.Must(t, route.Patch, "data/s", map[string]any{"data": map[string]string{"api_key": "y"}})
	if answer.Data["custom_metadata"].(map[string]any)["key_id"] != "k3" {
		t.Errorf("the answer to the patch is %v", answer.Data)
	}
}

// TestOverwriteOfReleasedPath: when no key publishes to a path any more, its writes need no check,
// although published versions still exist.
func TestOverwriteOfReleasedPath(t *testing.T) {
	h := openPublished(t, nil)
	_, err := h.Engine.(engine.Versioned).Publish(t.Context(), "team/stripe", publication("t1", "sk_1", 0))
	if err != nil {
		t.Fatal(err)
	}
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"sk_0"}}`)
	h.wantChanged("a write of the key's path", "api_key")
	h.publishTo("team/stripe", nil, []string{"api_key"})
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"mine","a":"b","c":"d"}}`)
	h.wantChanged("a write of the path that was given up", "")
	h.publishTo("team/stripe", []string{"a"}, nil)
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"mine","a":"x","c":"y"}}`)
	h.wantChanged("a write of another key's field", "a")
}
