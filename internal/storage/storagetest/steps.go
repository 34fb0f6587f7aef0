package storagetest

import (
	"testing"

	"github.com/keyturn/keyturn/internal/storage"
)

func commit(t *testing.T, s storage.Store, ops ...storage.Op) storage.Version {
	t.Helper()
	v, err := s.Commit(t.Context(), storage.Batch{Ops: ops})
	if err != nil {
		t.Fatalf("Commit(%v) = %v", ops, err)
	}
	return v
}

func get(t *testing.T, s storage.Store, key string) storage.Entry {
	t.Helper()
	e, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatalf("Get(%q) = %v", key, err)
	}
	return e
}

func scan(t *testing.T, s storage.Store, from, to string) []storage.Entry {
	t.Helper()
	var all []storage.Entry
	for e, err := range s.Scan(t.Context(), from, to) {
		if err != nil {
			t.Fatalf("Scan(%q, %q) = %v", from, to, err)
		}
		all = append(all, e)
	}
	return all
}
