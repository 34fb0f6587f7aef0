package kv_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/memory"
)

// ages lists the index of ages, a word for each row.
func (w *fixture) ages() string {
	w.t.Helper()
	var all []string
	aged := w.Engine.(engine.Aged)
	far := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	for a, err := range aged.Ages(w.t.Context(), time.Unix(0, 0), "", far) {
		if err != nil {
			w.t.Fatal(err)
		}
		word := a.Path + "=" + a.Deadline.Format("2006-01-02")
		if a.Finding != "" {
			word = a.Path + "?"
		}
		if !a.FromData {
			word += "m"
		}
		all = append(all, word)
	}
	return strings.Join(all, " ")
}

func (w *fixture) wantAges(what, want string) {
	w.t.Helper()
	if got := w.ages(); got != want {
		w.t.Errorf("%s: the index has %q, want %q", what, got, want)
	}
}

// dated writes a secret with a rotated_at.
func (w *fixture) dated(path, rotated string) {
	w.t.Helper()
	w.Must(w.t, route.Write, "data/"+path, fields{"data": fields{"api_key": "canary", "rotated_at": rotated}})
}

// TestAges: the index follows each change of a secret.
func TestAges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(10 * 365 * 24 * time.Hour) // of the bubble: 2010
		w := open(t, two, nil)
		w.put("plain", "v")
		w.wantAges("a secret without dates", "")
		w.dated("a", "2009-01-01T00:00:00Z")
		w.wantAges("written", "a=2009-03-02")
		w.Must(t, route.Patch, "data/a", fields{"data": fields{"note": "x"}})
		w.wantAges("patched", "a=2009-03-02")
		w.Must(t, route.Write, "metadata/a", fields{"custom_metadata": fields{"class": "financial"}})
		w.wantAges("with a class", "a=2009-01-31")
		w.dated("a", "2009-06-01T00:00:00Z")
		w.wantAges("rotated", "a=2009-07-01")
		w.Must(t, route.Delete, "data/a", nil)
		w.wantAges("deleted", "")
		w.Must(t, route.Write, "undelete/a", fields{"versions": []int{3}})
		w.wantAges("undeleted", "a=2009-07-01")
		w.Must(t, route.Write, "destroy/a", fields{"versions": []int{1}})
		w.wantAges("an old version destroyed", "a=2009-07-01")
		w.Must(t, route.Write, "destroy/a", fields{"versions": []int{3}})
		w.wantAges("destroyed", "")
		w.dated("a", "soon")
		w.wantAges("no date", "a?")
		w.dated("a", "2999-01-01T00:00:00Z")
		w.wantAges("the future", "a?")
		w.dated("a", "2009-01-01T00:00:00Z")
		w.Must(t, route.Delete, "metadata/a", nil)
		w.wantAges("removed", "")
		w.Must(t, route.Write, "metadata/plain",
			fields{"custom_metadata": fields{"rotated_at": "2009-01-01T00:00:00Z", "rotation_period": "1d"}})
		w.wantAges("custom metadata", "plain=2009-01-02m")
		w.Must(t, route.Patch, "metadata/plain", fields{"custom_metadata": fields{"rotated_at": nil}})
		w.wantAges("a period alone", "plain?m")
		w.Must(t, route.Write, "metadata/plain", fields{"custom_metadata": fields{}})
		w.wantAges("custom metadata without dates", "")
		w.Must(t, route.Write, "metadata/short", fields{"delete_version_after": "1h"})
		w.dated("short", "2009-01-01T00:00:00Z")
		w.wantAges("a version that expires", "short=2009-03-02")
		time.Sleep(2 * time.Hour)
		w.wantAges("expired", "")
		w.Stop()
	})
}

// TestNoValuesInIndex: a row of the index has no text of the secret's data.
func TestNoValuesInIndex(t *testing.T) {
	w := open(t, two, nil)
	w.dated("a", "canary-date")
	prefix := root + "next/"
	n := 0
	for e, err := range w.View.Scan(t.Context(), prefix, storage.PrefixEnd(prefix)) {
		if n++; err != nil || strings.Contains(string(e.Value), "canary") {
			t.Errorf("the row is %s, %v", e.Value, err)
		}
	}
	if n != 1 {
		t.Errorf("there are %d rows, want 1", n)
	}
}

// TestPublishedAges: the index has no secret that a key publishes, and has it again afterwards.
func TestPublishedAges(t *testing.T) {
	w := open(t, two, nil)
	v := w.Engine.(engine.Versioned)
	mark := func(published, released []string) {
		t.Helper()
		ops, err := v.Mark(t.Context(), "a", published, released)
		if err == nil {
			_, err = w.View.Commit(t.Context(), ops...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.dated("a", "2009-01-01T00:00:00Z")
	w.wantAges("before", "a=2009-03-02")
	mark([]string{"api_key"}, nil)
	w.wantAges("published", "")
	mark(nil, []string{"api_key"})
	w.wantAges("released", "a=2009-03-02")
}

// TestAgesOfEarlierVersions: a walk adds the secrets that earlier versions have written, goes on
// after a restart, and is not repeated.
func TestAgesOfEarlierVersions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := memory.Open()
		w := open(t, two, st)
		set := func(key, value string) {
			t.Helper()
			if _, err := w.View.Commit(t.Context(), storage.Set(root+key, []byte(value))); err != nil {
				t.Fatal(err)
			}
		}
		// The rows of an earlier version: the index had next_rotation alone, without a value.
		for n := range 2500 {
			path, index := fmt.Sprintf("s/%04d", n), ""
			data := `{"api_key":"k"}`
			switch n % 100 {
			case 0:
				data = `{"api_key":"k","rotated_at":"2009-01-01T00:00:00Z"}`
			case 1:
				data = `{"api_key":"k","next_rotation":"2009-05-01T00:00:00Z"}`
				index = `,"ix":"2009-05-01T00:00:00Z"`
				set("next/0000000049fa3b80/"+path, "")
			}
			set("v/"+path+"\x000000000001", data)
			set("m/"+path, `{"c":"2009-01-01T00:00:00Z","u":"2009-01-01T00:00:00Z","n":1,"o":0,`+
				`"v":[{"n":1,"c":"2009-01-01T00:00:00Z"}],"s":{}`+index+`}`)
		}
		old := open(t, two, st)
		if !old.Engine.(engine.Aged).Indexing() || !strings.Contains(old.ages(), "s/0001=2009-05-01") {
			t.Errorf("before the walk: %q", old.ages())
		}
		old.Stop()
		again := open(t, two, st)
		synctest.Wait()
		time.Sleep(time.Minute)
		if again.Engine.(engine.Aged).Indexing() {
			t.Error("the walk has not ended")
		}
		got := strings.Fields(again.ages())
		if len(got) != 50 || got[0] != "s/0000=2009-03-02" || got[49] != "s/2401=2009-05-01" {
			t.Errorf("after the walk: %d secrets, %q", len(got), got)
		}
		again.Stop()
		third := open(t, two, st)
		if third.Engine.(engine.Aged).Indexing() {
			t.Error("the walk is repeated")
		}
		third.Stop()
		w.Stop()
	})
}
