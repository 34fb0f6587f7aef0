package barrier_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/internal/storage"
)

// Each next to the same on the store below.

func BenchmarkGet(b *testing.B) {
	for _, size := range []int{64, 1024} {
		st, br := initialized(b)
		v := br.View("mount/0f8fad5b-d9cb-469f-a165-70867728950e/")
		commit(b, v, storage.Set("data/some/secret", bytes.Repeat([]byte("x"), size)))
		b.Run(fmt.Sprint("barrier-", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Get(b.Context(), "data/some/secret"); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprint("store-", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := st.Get(b.Context(), v.Prefix()+"data/some/secret"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkCommit(b *testing.B) {
	st, br := initialized(b)
	v := br.View("mount/x/")
	value := bytes.Repeat([]byte("x"), 256)
	b.Run("barrier", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			commit(b, v, storage.Set("a", value), storage.Set("b", value), storage.Set("c", nil))
		}
	})
	b.Run("store", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ops := []storage.Op{storage.Set("p/a", value), storage.Set("p/b", value), storage.Set("p/c", nil)}
			if _, err := st.Commit(b.Context(), storage.Batch{Ops: ops}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkHMAC(b *testing.B) {
	_, br := initialized(b)
	token := []byte("hvs.CAESIJ0123456789abcdefghijklmnopqrstuvwxyz")
	b.ReportAllocs()
	for b.Loop() {
		br.HMAC("token", token)
	}
}

func BenchmarkBlob(b *testing.B) {
	_, br := initialized(b)
	sealed, err := br.SealBytes("batch", make([]byte, 300))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := br.OpenBytes("batch", sealed); err != nil {
			b.Fatal(err)
		}
	}
}
