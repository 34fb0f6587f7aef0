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

// held is a mount whose writes of held fields are judged by the test.
type held struct {
	*world
	judge func(o engine.Overwrite) error // nil: all is right
	told  []engine.Overwrite
	along []storage.Op // joins the next commit
}

func openHeld(t *testing.T, st storage.Store) *held {
	t.Helper()
	h := &held{}
	h.world = &world{enginetest.Open(t, kv.Type, enginetest.Config{Store: st, Settings: engine.Settings{Options: two}, Host: func(host *engine.Host) {
		host.Overwrite = func(_ context.Context, o engine.Overwrite, commit func([]storage.Op) error) error {
			h.told = append(h.told, o)
			if h.judge != nil {
				if err := h.judge(o); err != nil {
					return err
				}
			}
			along := h.along
			h.along = nil
			return commit(along)
		}
	}}), t}
	return h
}

// bind marks a path as a key that is bound to it does.
func (h *held) bind(path string, hold, giveUp []string) {
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

// changed are the fields that writes since the last call have changed, one write after the other.
func (h *held) changed() string {
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

func (h *held) want(what, want string) {
	h.t.Helper()
	if got := h.changed(); got != want {
		h.t.Errorf("%s: its key was told %q, want %q", what, got, want)
	}
}

// TestOverwriteIsTold: a key is told of writes that change its fields, and of no others.
func TestOverwriteIsTold(t *testing.T) {
	h := openHeld(t, nil)
	h.put("free", "1")
	h.put("free", "2")
	h.Must(t, route.Delete, "data/free", nil)
	h.want("a path that no key publishes to", "")

	h.bind("stripe", []string{"api_key"}, nil)
	if got := h.keys("metadata/"); got != "free" {
		t.Errorf("a path that is held and empty is listed: %s", got)
	}
	if _, n := h.get("stripe"); n != 0 {
		t.Error("a path that is held is a secret")
	}
	h.Must(t, route.Write, "data/stripe", `{"data":{"api_key":"a","note":"x"}}`)
	h.want("the first write", "api_key")
	h.Must(t, route.Write, "data/stripe", `{"data":{"note":"y","api_key":"a"}}`)
	h.Must(t, route.Patch, "data/stripe", `{"data":{"note":"z"}}`)
	h.Must(t, route.Write, "metadata/stripe", `{"custom_metadata":{"team":"pay"}}`)
	h.want("fields that are not the key's", "")
	h.Must(t, route.Patch, "data/stripe", `{"data":{"api_key":"b"}}`)
	h.want("a patch", "api_key")
	for _, null := range []string{`{"data":{"api_key":null}}`, `{"data":{"api_key":["b"]}}`, `{"data":{"note":"x"}}`} {
		h.judge = func(engine.Overwrite) error { return fault.New("test", fault.Invalid, "no") }
		if _, err := h.Do(route.Write, "data/stripe", null); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", null, err)
		}
		if f := h.told[0].Fields["api_key"]; !f.Empty() {
			t.Errorf("%s has the key", null)
		}
		h.want("a write without the key", "api_key")
	}
	if _, n := h.get("stripe"); n != 4 {
		t.Errorf("writes that were refused have made version %d", n)
	}
	h.judge = nil
	h.Must(t, route.Delete, "data/stripe", nil)
	h.want("a deletion", "api_key emptied; kv undelete -versions=4 mount/stripe")
	h.Must(t, route.Delete, "data/stripe", nil)
	h.want("the same again", "")
	h.Must(t, route.Write, "undelete/stripe", `{"versions":[4]}`)
	h.want("an undeletion", "api_key")
	h.Must(t, route.Write, "delete/stripe", `{"versions":[1,2]}`)
	h.want("the deletion of what nobody reads", "")
	h.Must(t, route.Write, "destroy/stripe", `{"versions":[4]}`)
	h.want("the destruction of the current version", "api_key emptied; ")
	h.Must(t, route.Write, "data/stripe", `{"data":{"api_key":"c"},"options":{"force":true}}`)
	if !h.told[0].Force || h.told[0].Version != 5 || h.told[0].Path != "mount/stripe" {
		t.Errorf("the key was told %+v", h.told[0])
	}
	h.changed()

	h.bind("stripe", nil, []string{"api_key"})
	h.put("stripe", "9")
	h.want("once no key publishes there", "")
}

// TestOverwriteAfterMetadataDelete: a secret that is deleted for good is still its key's.
func TestOverwriteAfterMetadataDelete(t *testing.T) {
	h := openHeld(t, nil)
	kv := h.Engine.(engine.Versioned)
	if _, err := kv.Publish(t.Context(), "team/stripe", publication("t1", "sk_1", 0)); err != nil {
		t.Fatal(err)
	}
	h.Must(t, route.Delete, "metadata/team/stripe", nil)
	h.want("its deletion", "api_key emptied; ")
	if got := h.keys("metadata/") + h.keys("metadata/team"); got != "nonenone" {
		t.Errorf("it is listed: %s", got)
	}
	if _, err := h.Do(route.Read, "metadata/team/stripe", nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("its metadata: %v", err)
	}
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"sk_0"},"options":{"cas":0}}`)
	h.want("a new secret", "api_key")
	h.Must(t, route.Delete, "metadata/team/stripe", nil)
	h.bind("team/stripe", nil, []string{"api_key"})
	if h.rows("m/") != 0 || h.rows("v/") != 0 {
		t.Error("a row is left")
	}
}

// TestOverwriteIsJudgedAgain: what is stored is what was judged: a write that another server's
// overtakes, and one whose key has changed meanwhile, are judged again.
func TestOverwriteIsJudgedAgain(t *testing.T) {
	st := memory.Open()
	h := openHeld(t, st)
	h.bind("stripe", []string{"v"}, nil)
	h.put("stripe", "1")
	other := openHeld(t, st)
	h.changed()
	h.judge = func(o engine.Overwrite) error {
		if o.Version == 2 {
			other.put("stripe", "other")
		}
		return nil
	}
	h.put("stripe", "2")
	h.want("an overtaken write", "v | v")
	h.holds("stripe", "2", 3)
	h.judge = nil
	h.along = []storage.Op{storage.Append("event/", []byte("a key's")), storage.Append("event/", []byte("another key's"))}
	h.put("stripe", "2b")
	h.changed()
	h.along = []storage.Op{storage.Expect("elsewhere", 17)}
	h.put("stripe", "3")
	h.want("a write whose key has changed", "v | v")
	h.holds("stripe", "3", 5)
	if got := other.told; !slices.ContainsFunc(got, func(o engine.Overwrite) bool { return o.Version == 2 }) {
		t.Error("another server does not know that the path is held")
	}
}

// TestOverwriteWarnsOnce: what was said of a write that lost is not said of the one that was stored.
func TestOverwriteWarnsOnce(t *testing.T) {
	st := memory.Open()
	h := openHeld(t, st)
	h.bind("stripe", []string{"v"}, nil)
	h.put("stripe", "1")
	other := openHeld(t, st)
	h.judge = func(o engine.Overwrite) error {
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

// TestOverwriteOfDamagedVersion: a current version that cannot be read is written over, and the key is told.
func TestOverwriteOfDamagedVersion(t *testing.T) {
	st := memory.Open()
	h := openHeld(t, st)
	h.bind("stripe", []string{"v"}, nil)
	h.put("stripe", "1")
	for e, err := range st.Scan(t.Context(), "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(e.Key, "/v/stripe") {
			e.Value[len(e.Value)-1] ^= 1
			if _, err := st.Commit(t.Context(), storage.Batch{Ops: []storage.Op{storage.Set(e.Key, e.Value)}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := h.Do(route.Read, "data/stripe", nil); !fault.Is(err, fault.Internal) {
		t.Fatalf("reading what is damaged: %v", err)
	}
	h.changed()
	h.put("stripe", "2")
	h.want("a write over what is damaged", "v")
	h.holds("stripe", "2", 2)
}

// TestVersionsRead: what a path has held is found, also what was deleted.
func TestVersionsRead(t *testing.T) {
	h := openHeld(t, nil)
	kv := h.Engine.(engine.Versioned)
	for i, turn := range []string{"t1", "t2", "t3"} {
		if _, err := kv.Publish(t.Context(), "stripe", publication(turn, "sk_"+turn, i)); err != nil {
			t.Fatal(err)
		}
	}
	h.Must(t, route.Delete, "data/stripe", nil)
	h.Must(t, route.Write, "destroy/stripe", `{"versions":[2]}`)
	all, err := kv.Versions(t.Context(), "stripe")
	if err != nil || len(all) != 2 || all[0].Version != 3 || !all[0].Deleted || all[0].Turn != "t3" || all[1].Version != 1 || all[1].Deleted ||
		all[1].Fields["api_key"].RevealString() != "sk_t1" {
		t.Errorf("versions %+v, %v", all, err)
	}
}

// TestJudgementSaysWhatIsRead: what the judgement of a client's write says of the key is in the secret's custom metadata from then on,
// beside what users keep there, and is not there where the write is refused.
func TestJudgementSaysWhatIsRead(t *testing.T) {
	h := openHeld(t, memory.Open())
	h.bind("s", []string{"api_key"}, nil)
	h.Must(t, route.Write, "metadata/s", map[string]any{"custom_metadata": map[string]string{"team": "a", "key_id": "k1"}})
	for _, refused := range []bool{true, false} {
		h.judge = func(o engine.Overwrite) error {
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
		if want := map[bool]string{true: "k1", false: "k2"}[refused]; (err != nil) != refused || custom["key_id"] != want || custom["team"] != "a" {
			t.Errorf("refused: %v, error %v, custom metadata %v", refused, err, custom)
		}
	}
	h.judge = func(o engine.Overwrite) error { o.Custom(map[string]string{"key_id": "k3"}); return nil }
	answer := h.Must(t, route.Patch, "data/s", map[string]any{"data": map[string]string{"api_key": "y"}})
	if answer.Data["custom_metadata"].(map[string]any)["key_id"] != "k3" {
		t.Errorf("the answer to the patch is %v", answer.Data)
	}
}

// TestOverwriteOfGivenUpPath: once no key publishes to a path any more, its writes cost nothing
// again, however many fields they change, though versions that a key has published are still there.
func TestOverwriteOfGivenUpPath(t *testing.T) {
	h := openHeld(t, nil)
	if _, err := h.Engine.(engine.Versioned).Publish(t.Context(), "team/stripe", publication("t1", "sk_1", 0)); err != nil {
		t.Fatal(err)
	}
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"sk_0"}}`)
	h.want("a write of the key's path", "api_key")
	h.bind("team/stripe", nil, []string{"api_key"})
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"mine","a":"b","c":"d"}}`)
	h.want("a write of the path that was given up", "")
	h.bind("team/stripe", []string{"a"}, nil)
	h.Must(t, route.Write, "data/team/stripe", `{"data":{"api_key":"mine","a":"x","c":"y"}}`)
	h.want("a write of another key's field", "a")
}
