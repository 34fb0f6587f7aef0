package kv

import (
	"context"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/storage"
)

// Indexing implements [engine.Aged].
func (v *versioned) Indexing() bool { return v.walk.running.Load() || v.secrets.upgrade.running.Load() }

// Ages implements [engine.Aged].
func (v *versioned) Ages(ctx context.Context, from time.Time, path string, to time.Time) iter.Seq2[engine.Age, error] {
	return func(yield func(engine.Age, error) bool) {
		now := time.Now()
		for e, err := range v.mount.Store.Scan(ctx, nextKey(from, path), nextKey(to, "")) {
			if err != nil && e.Key == "" {
				yield(engine.Age{}, err)
				return
			}
			second, path, _ := strings.Cut(strings.TrimPrefix(e.Key, nextPrefix), "/")
			unix, _ := strconv.ParseInt(second, 16, 64)
			out := engine.Age{Path: path, Index: time.Unix(unix, 0).UTC(), FromData: true}
			a := &age{FromData: true, Deadline: out.Index} // an earlier version of Keyturn stored no more
			if err == nil && len(e.Value) > 0 {
				a, err = ages.Decode(e)
			}
			if err != nil {
				a = &age{FromData: true, Finding: "its row in the index is damaged; write the secret again"}
			}
			if !a.Expires.IsZero() && !now.Before(a.Expires) {
				continue
			}
			out.Rotated, out.Deadline, out.Class, out.Period = a.Rotated, a.Deadline, a.Class, a.Period
			out.Finding, out.FromData = a.Finding, a.FromData
			if !yield(out, nil) {
				return
			}
		}
	}
}

// Secrets implements [engine.Aged].
func (v *versioned) Secrets(ctx context.Context, after string) iter.Seq2[engine.Tracked, error] {
	return func(yield func(engine.Tracked, error) bool) {
		from := metaPrefix
		if after != "" {
			from += after + "\x00"
		}
		now := time.Now()
		for e, err := range v.mount.Store.Scan(ctx, from, storage.PrefixEnd(metaPrefix)) {
			if err != nil && e.Key == "" {
				yield(engine.Tracked{}, err)
				return
			}
			out := engine.Tracked{Path: strings.TrimPrefix(e.Key, metaPrefix)}
			var m *record
			if err == nil {
				m, err = decodeRecord(e.Value)
			}
			// a deleted secret has nothing to rotate, and a damaged one no metadata
			out.Tracked = err == nil && (m.readable(now) == nil || m.mayBePublished() || !m.Indexed.IsZero())
			if !yield(out, nil) {
				return
			}
		}
	}
}
