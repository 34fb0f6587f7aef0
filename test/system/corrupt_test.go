//go:build integration

package system

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/harness"
)

// TestCorruptByte changes one byte of the store of a stopped or killed server. Each read
// afterwards is right or an error. Most values can be read and, after restoring the backup, all.
func TestCorruptByte(t *testing.T) {
	t.Parallel()
	trials := 24
	if testing.Short() {
		trials = 6
	}
	s, values := filled(t, 120, 30_000)
	s.Kill() // the last writes are only in the log
	backups := map[string]string{"killed": filepath.Join(t.TempDir(), "killed"),
		"stopped": filepath.Join(t.TempDir(), "stopped")}
	if err := harness.CopyTree(s.Data, backups["killed"]); err != nil {
		t.Fatal(err)
	}
	s.StartServing(t)
	s.Stop(t)
	if err := harness.CopyTree(s.Data, backups["stopped"]); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(5, 6))
	outcomes := map[string]int{}
	for trial := range trials {
		state := []string{"killed", "stopped"}[trial%2]
		victim := copied(t, s, backups[state])
		where := flip(t, victim.Data, random)
		outcomes[damaged(t, victim, values, state+" "+where)]++
		victim.Kill()
		if err := os.RemoveAll(victim.Data); err != nil {
			t.Fatal(err)
		}
		if trial%8 > 1 {
			continue
		}
		if err := harness.CopyTree(backups[state], victim.Data); err != nil {
			t.Fatal(err)
		}
		victim.StartServing(t)
		if got := damaged(t, victim, values, "restored"); got != "all right" {
			t.Errorf("after restoring the backup: %s", got)
		}
		victim.Kill()
	}
	t.Logf("%d trials: %v", trials, outcomes)
	if outcomes["all right"] == trials {
		t.Error("no byte mattered: the test tests nothing")
	}
}

// flip changes a byte of a data file; larger files are more likely.
func flip(t *testing.T, folder string, random *rand.Rand) string {
	t.Helper()
	sizes := map[string]int{}
	total := 0
	files, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if end := filepath.Ext(f.Name()); end == ".sst" || end == ".log" {
			sizes[f.Name()] = int(info.Size())
			total += int(info.Size())
		}
	}
	at := random.IntN(total)
	for _, name := range slices.Sorted(maps.Keys(sizes)) {
		if at >= sizes[name] {
			at -= sizes[name]
			continue
		}
		path := filepath.Join(folder, name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text[at] ^= byte(1 + random.IntN(255))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s byte %d of %d", name, at, len(text))
	}
	t.Fatal("no file to damage")
	return ""
}

// damaged starts a server, if it does not run, reads everything, and returns the result.
func damaged(t *testing.T, s *harness.Server, values map[string]string, where string) string {
	t.Helper()
	if err := s.Launch(); err == nil {
		if err := s.Answers(); errors.Is(err, harness.ErrEnded) {
			if log := s.Stderr(t); !strings.Contains(log, "does not start") {
				t.Errorf("%s: it ended without saying why: %s", where, log)
			}
			return "it does not start"
		}
	}
	c := s.Client(s.Root)
	if sealed(t, c) {
		if err := s.Serves(); err != nil {
			return "it does not unseal"
		}
	}
	wrong, refused := 0, 0
	for key, value := range values {
		a, err := c.Do("GET", key, nil)
		switch {
		case err != nil:
			t.Errorf("%s: reading %s: %v", where, key, err)
		case a.Status >= 500:
			refused++
		case a.Status != 200 || a.Text("data", "x") != value:
			wrong++
			t.Errorf("%s: %s is %.200s", where, key, body(a))
		}
	}
	switch {
	case wrong > 0:
		return "wrong"
	case refused == 0:
		return "all right"
	}
	if log := []byte(s.Stderr(t)); !bytes.Contains(log, []byte("damaged")) && !bytes.Contains(log, []byte("corrupt")) {
		t.Errorf("%s: %d reads were refused and the log does not say why", where, refused)
	}
	if refused > len(values)/2 {
		t.Errorf("%s: only %d of %d are left", where, len(values)-refused, len(values))
	}
	return "some are refused"
}
