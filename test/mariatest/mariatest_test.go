//go:build integration && unix

package mariatest

import "testing"

func TestServerSurvivesStopAndKill(t *testing.T) {
	s := Start(t)
	s.Exec(t, "CREATE DATABASE app; CREATE TABLE app.kept (n int); INSERT INTO app.kept VALUES (7)")
	for _, end := range []func(){s.Stop, s.Kill} {
		end()
		if err := s.Answers(t.Context()); err == nil {
			t.Fatal("the server answers after its end")
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Int(t.Context(), "SELECT n FROM app.kept"); err != nil || got != 7 {
			t.Fatalf("got %d, %v; want 7", got, err)
		}
	}
}
