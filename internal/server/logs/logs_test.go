package logs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/server/config"
)

// begin opens a log that writes to a buffer and, if c names one, a file.
func begin(t *testing.T, c config.Log) (*Logs, *slog.Logger, *bytes.Buffer) {
	t.Helper()
	if c.Format == "" {
		c.Format = "text"
	}
	var out bytes.Buffer
	l, err := Open(c, &out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l, l.Logger(), &out
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// TestNames has the files that Vault's documentation has for each setting.
func TestNames(t *testing.T) {
	for given, want := range map[string]string{
		"": "vault.log", "diary": "diary.log", "diary.txt": "diary.txt", "sub": "sub/vault.log",
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		_, log, _ := begin(t, config.Log{File: dir + "/" + given})
		log.Info("hello")
		if text := read(t, filepath.Join(dir, want)); !strings.Contains(text, "msg=hello") {
			t.Errorf("%q: %s has %q", given, want, text)
		}
	}
	_, err := Open(config.Log{File: t.TempDir() + "/none/x.log"}, &bytes.Buffer{})
	if err == nil || !strings.Contains(err.Error(), "log_file") || !strings.Contains(err.Error(), "make its folder") {
		t.Errorf("no folder: %v", err)
	}
}

// TestRotateBytes begins a new file before one becomes too large, and keeps as
// many old ones as the configuration says.
func TestRotateBytes(t *testing.T) {
	for keep, want := range map[int]int{0: 9, 3: 3, -1: 0} {
		dir := t.TempDir()
		foreign := []string{
			"app-2020.log", "app-20200101T000000.000000000Z.log.gz", "other-20200101T000000.000000000Z.log",
		}
		for _, name := range foreign {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, log, out := begin(t, config.Log{File: dir + "/app.log", RotateBytes: 100, MaxFiles: keep})
		for i := range 10 {
			log.Info(fmt.Sprintf("%d %s", i, strings.Repeat("x", 60)))
		}
		all := names(t, dir)
		if len(all) != want+1+len(foreign) {
			t.Errorf("keep %d: %q", keep, all)
		}
		for _, name := range foreign {
			if !slices.Contains(all, name) {
				t.Errorf("keep %d: %s was removed", keep, name)
			}
		}
		if text := read(t, dir+"/app.log"); !strings.Contains(text, "9 xxx") || strings.Count(text, "\n") != 1 {
			t.Errorf("keep %d: %q", keep, text)
		}
		if keep == 3 {
			oldest := all[slices.IndexFunc(all, func(n string) bool { return !slices.Contains(foreign, n) })]
			if text := read(t, filepath.Join(dir, oldest)); !strings.Contains(text, "6 xxx") {
				t.Errorf("the oldest that was kept has %q", text)
			}
		}
		if strings.Count(out.String(), "\n") != 10 {
			t.Errorf("the standard error has %q", out)
		}
	}
}

// TestRotateDuration begins a new file once one is old, also across a restart.
func TestRotateDuration(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		c := config.Log{File: dir + "/app.log", RotateEvery: 24 * time.Hour}
		_, log, _ := begin(t, c)
		log.Info("one")
		time.Sleep(24*time.Hour - time.Second)
		log.Info("two")
		if all := names(t, dir); len(all) != 1 {
			t.Errorf("before a day: %q", all)
		}
		time.Sleep(time.Second)
		log.Info("three")
		all := names(t, dir)
		if len(all) != 2 || read(t, filepath.Join(dir, all[0])) == "" ||
			strings.Contains(read(t, dir+"/app.log"), "two") {
			t.Errorf("after a day: %q", all)
		}
		if got := all[0]; got != "app-"+time.Now().UTC().Format(stamp)+".log" {
			t.Errorf("the old file is %s at %v", got, time.Now())
		}
	})
}

// TestReopen: what was moved away is written no more.
func TestReopen(t *testing.T) {
	dir := t.TempDir()
	l, log, _ := begin(t, config.Log{File: dir + "/app.log"})
	log.Info("one")
	if err := os.Rename(dir+"/app.log", dir+"/app.log.1"); err != nil {
		t.Fatal(err)
	}
	log.Info("two")
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	log.Info("three")
	old, now := read(t, dir+"/app.log.1"), read(t, dir+"/app.log")
	if !strings.Contains(old, "two") || strings.Contains(now, "two") || !strings.Contains(now, "three") {
		t.Errorf("moved: %q, new: %q", old, now)
	}
}

// TestUnwritable: the standard error gets every line, and says once that the file
// does not.
func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	l, log, out := begin(t, config.Log{File: dir + "/app.log"})
	if err := l.file.f.Close(); err != nil { // as a disk that has gone
		t.Fatal(err)
	}
	log.Info("one")
	log.Info("two")
	text := out.String()
	if strings.Count(text, "cannot be written") != 1 || !strings.Contains(text, "msg=one") ||
		!strings.Contains(text, "msg=two") {
		t.Errorf("%q", text)
	}
	l.file.f = nil
}

// TestCannotRotate: a file that cannot be put aside is written on.
func TestCannotRotate(t *testing.T) {
	dir := t.TempDir()
	l, log, out := begin(t, config.Log{File: dir + "/app.log", RotateBytes: 30, MaxFiles: -1})
	log.Info("one")
	if err := errors.Join(os.Remove(l.file.path), os.Mkdir(l.file.path, 0o700),
		os.WriteFile(l.file.path+"/x", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	log.Info("two")
	if err := os.RemoveAll(l.file.path); err != nil {
		t.Fatal(err)
	}
	log.Info("three")
	if text := read(t, dir+"/app.log"); !strings.Contains(text, "three") {
		t.Errorf("the file has %q", text)
	}
	if !strings.Contains(out.String(), "cannot be written") {
		t.Errorf("nothing is said: %q", out)
	}
}

// TestWatch: a watcher gets the lines of its own level and form, whatever the log
// tells.
func TestWatch(t *testing.T) {
	l, log, out := begin(t, config.Log{Level: slog.LevelWarn, Format: "json"})
	lines, stop, _ := l.Watch(slog.LevelDebug, "")
	plain, stopPlain, _ := l.Watch(slog.LevelWarn, "text")
	log.With("a", 1).WithGroup("g").Debug("deep", "b", 2)
	log.Log(t.Context(), config.LevelTrace, "deeper")
	log.Warn("loud")
	for _, want := range []string{`"msg":"deep","a":1,"g":{"b":2}`, `"msg":"loud"`} {
		if got := string(<-lines); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := string(<-plain); !strings.Contains(got, "level=WARN msg=loud") || len(plain) != 0 {
		t.Errorf("in text: %q, and %d more", got, len(plain))
	}
	if text := out.String(); strings.Contains(text, "deep") || strings.Count(text, "loud") != 1 {
		t.Errorf("the log has %q", text)
	}
	stop()
	stopPlain()
	if log.Enabled(t.Context(), slog.LevelInfo) {
		t.Error("what nobody wants is formatted")
	}
	l.SetLevel(slog.LevelDebug)
	if log.Debug("now"); !strings.Contains(out.String(), "now") || l.Level() != slog.LevelDebug {
		t.Errorf("%q", out)
	}
	for i := range maxWatchers + 1 {
		if _, _, ok := l.Watch(slog.LevelInfo, ""); ok != (i < maxWatchers) {
			t.Errorf("watcher %d: %v", i, ok)
		}
	}
}

// TestSlowWatcher loses lines and holds nobody up.
func TestSlowWatcher(t *testing.T) {
	l, log, _ := begin(t, config.Log{})
	lines, stop, _ := l.Watch(slog.LevelInfo, "")
	defer stop()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range backlog {
				log.Info("x")
			}
		})
	}
	wg.Wait()
	if len(lines) != backlog {
		t.Errorf("%d lines wait", len(lines))
	}
}
