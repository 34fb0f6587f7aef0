//go:build integration && unix

package pgtest

import "testing"

func TestServerSurvivesStopAndKill(t *testing.T) {
	s := Start(t, Options{})
	s.Exec(t, "postgres", "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)")
	for _, end := range []func(){s.Stop, s.Kill} {
		end()
		if err := s.Answers(t.Context()); err == nil {
			t.Fatal("the server answers after its end")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if got := s.Int(t, "postgres", "SELECT n FROM kept"); got != 7 {
			t.Fatalf("got %d, want 7", got)
		}
	}
}
