package pebble

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/keyturn/keyturn/internal/storage"
)

// lease is about what a lease with its two index rows takes.
func lease(id int64, body []byte) storage.Batch {
	name := fmt.Sprintf("%016x", uint64(id)*0x9e3779b97f4a7c15)
	return storage.Batch{Ops: []storage.Op{
		storage.Set("lease/database/creds/app-readonly/"+name, body).If(0),
		storage.Set("due/5f9d1c/"+name[:8]+"/lease/database/creds/app-readonly/"+name, nil),
		storage.Set("lease-of/a1b2c3d4e5f6/"+name, nil),
		storage.Expect("token/a1b2c3d4e5f6", 0),
	}}
}

func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 8, 64} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			s := open(b, Options{Path: b.TempDir()})
			body := random(250)
			var n atomic.Int64
			spread(b, clients, func() {
				if _, err := s.Commit(b.Context(), lease(n.Add(1), body)); err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// spread runs work b.N times by exactly n goroutines.
func spread(b *testing.B, n int, work func()) {
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	b.ReportAllocs()
	b.ResetTimer()
	for range n {
		go func() {
			for left.Add(-1) >= 0 {
				work()
			}
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	b.StopTimer()
}

func BenchmarkGet(b *testing.B) {
	const rows = 100_000
	s := open(b, Options{Path: b.TempDir()})
	for i := 0; i < rows; i += 100 {
		var batch storage.Batch
		for j := i; j < i+100; j++ {
			batch.Ops = append(batch.Ops, storage.Set(fmt.Sprintf("mount/kv/data/%06d", j), random(250)))
		}
		if _, err := s.Commit(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.supervisor.current.Load().db.Flush(); err != nil {
		b.Fatal(err)
	}
	keys := make([]string, rows)
	for i := range keys {
		keys[i] = fmt.Sprintf("mount/kv/data/%06d", i)
	}
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprint("present/", clients), func(b *testing.B) {
			spread(b, clients, func() {
				if e, err := s.Get(b.Context(), keys[rand.IntN(rows)]); err != nil || e.Version == 0 {
					b.Error(e, err)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
		})
	}
	b.Run("absent", func(b *testing.B) {
		spread(b, 1, func() {
			if e, err := s.Get(b.Context(), keys[rand.IntN(rows)]+"x"); err != nil || e.Version != 0 {
				b.Error(e, err)
			}
		})
	})
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
