package memory

import (
	"testing"

	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/storagetest"
)

func TestContract(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Store { return Open() })
}

func TestDriverRefusesParameters(t *testing.T) {
	if _, err := Driver.Open(t.Context(), map[string]string{"path": "/x"}, nil); err == nil {
		t.Error("opened with a parameter that memory does not have")
	}
	s, err := Driver.Open(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
