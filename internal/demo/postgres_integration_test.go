//go:build integration

package demo

import (
	"errors"
	"os"
	"testing"
)

func TestPostgres(t *testing.T) {
	pg, err := openPostgres(t.Context())
	if errors.Is(err, errNoPostgres) && os.Getenv("KEYTURN_TEST_REQUIRE") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer pg.close()
	got, err := pg.query(t.Context(), superuser, pg.password, "SELECT 40 + 2")
	if err != nil || got != "42" {
		t.Errorf("got %q (%v), want 42", got, err)
	}
	if _, err := pg.query(t.Context(), superuser, "wrong", "SELECT 1"); err == nil {
		t.Error("a wrong password was taken")
	}
	if _, err := pg.query(t.Context(), superuser, pg.password, "SELECT nonsense"); err == nil {
		t.Error("SQL that is wrong succeeded")
	}
	pg.close()
	if _, err := pg.query(t.Context(), superuser, pg.password, "SELECT 1"); err == nil {
		t.Error("PostgreSQL answers after its end")
	}
	if _, err := os.Stat(pg.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder: got %v, want none", err)
	}
}
