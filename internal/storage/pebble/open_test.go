package pebble

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

var update = flag.Bool("update", false, "write the fixture of this layout anew")

// TestSecondOpener: only one process can open a folder.
func TestSecondOpener(t *testing.T) {
	dir := t.TempDir()
	open(t, Options{Path: dir})
	_, err := Open(t.Context(), Options{Path: dir + "/."})
	if got := fault.Message(err); !strings.Contains(got, "in use by another process") || !strings.Contains(got, dir) {
		t.Errorf("opening a folder twice: %q (%v)", got, err)
	}
}

func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, Options{Path: dir})
	v := until(t, s, storage.Set("a", []byte("1")))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, Options{Path: dir})
	if e, err := s.Get(t.Context(), "a"); err != nil || e.Version != v || string(e.Value) != "1" {
		t.Errorf("after opening again: %+v, %v", e, err)
	}
	if next := until(t, s, storage.Set("a", nil).If(v)); next <= v {
		t.Errorf("number %d after %d", next, v)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v; want 0700", info.Mode(), err)
	}
}

func TestRefusedFolders(t *testing.T) {
	for name, tt := range map[string]struct {
		file, text string
		want       string
	}{
		"newer layout":   {"LAYOUT", "keyturn storage layout 2\n", "layout 2 and this keyturn knows layouts up to 1"},
		"damaged layout": {"LAYOUT", "keyturn storage layout 1", "is damaged"},
		"empty layout":   {"LAYOUT", "", "is damaged"},
		"foreign folder": {"vault.db", "x", `holds "vault.db" but no LAYOUT`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, tt.file), []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), Options{Path: dir})
			if got := fault.Message(err); !strings.Contains(got, tt.want) || !fault.Is(err, fault.Invalid) {
				t.Errorf("got %q (%v), want %q", got, err, tt.want)
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) > 2 {
				t.Errorf("a refused folder was written to: %v, %v", files, err)
			}
		})
	}
}

func TestDriver(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		params map[string]string
		want   string
	}{
		{map[string]string{}, "needs path"},
		{map[string]string{"path": dir, "cache_bytes": "64MiB"}, "cache_bytes must be a number"},
		{map[string]string{"path": dir, "cache_bytes": "1"}, "cache_bytes must be a number"},
	} {
		s, err := Driver.Open(t.Context(), tt.params, slog.Default())
		if s != nil || !strings.Contains(fault.Message(err), tt.want) {
			t.Errorf("Open(%v) = %v, %v, want %q", tt.params, s, err, tt.want)
		}
	}
	s, err := Driver.Open(t.Context(), map[string]string{"path": dir, "cache_bytes": "1048576"}, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// fixture is the contents of the store in testdata, some in tables, some in the log.
func fixture() []storage.Op {
	var ops []storage.Op
	for i := range 40 {
		ops = append(ops, storage.Set(fmt.Sprintf("core/row/%02d", i), fmt.Appendf(nil, "value %d", i)))
	}
	return append(ops, storage.Set("\x00", nil), storage.Set("\xff", []byte{0xff}))
}

// TestFixture opens a folder of each released layout.
func TestFixture(t *testing.T) {
	saved := fmt.Sprintf("testdata/layout%d", storage.Layout)
	if *update {
		writeFixture(t, saved)
	}
	for layout := range storage.Layout {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(fmt.Sprintf("testdata/layout%d", layout+1))); err != nil {
			t.Fatal(err)
		}
		s := open(t, Options{Path: dir})
		got := map[string]string{}
		newest := storage.Version(0)
		for e, err := range s.Scan(t.Context(), "", "") {
			if err != nil {
				t.Fatal(err)
			}
			got[e.Key] = string(e.Value)
			newest = max(newest, e.Version)
		}
		want := map[string]string{"log": "not in a table"}
		for _, op := range fixture() {
			want[op.Key] = string(op.Value)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("layout %d (-want +got):\n%s", layout+1, diff)
		}
		if next := until(t, s, storage.Set("new", nil)); next <= newest {
			t.Errorf("layout %d: number %d after %d", layout+1, next, newest)
		}
	}
}

func writeFixture(t *testing.T, dir string) {
	mem := vfs.NewMem()
	s := open(t, Options{Path: "/store", FS: mem})
	until(t, s, fixture()...)
	if err := s.supervisor.current.Load().db.Flush(); err != nil {
		t.Fatal(err)
	}
	until(t, s, storage.Set("log", []byte("not in a table")))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if ok, err := vfs.Clone(mem, vfs.Default, "/store", dir); err != nil || !ok {
		t.Fatal(ok, err)
	}
	if err := os.Remove(filepath.Join(dir, "LOCK")); err != nil {
		t.Fatal(err)
	}
}

// TestCorruptByte: whichever byte of a table is wrong, a read returns the right value or an error;
// other entries are not affected.
func TestCorruptByte(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := open(t, Options{Path: "/store", FS: mem})
	want := map[string]string{}
	for i := range 30 {
		key, value := fmt.Sprintf("key/%02d", i), string(random(300))
		want[key] = value
		until(t, s, storage.Set(key, []byte(value)))
	}
	if err := s.supervisor.current.Load().db.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	table := tableOf(t, mem)
	size := len(contents(t, mem, table))
	refused := 0
	for at := 0; at < size; at += 211 {
		disk := vfs.NewMem()
		if ok, err := vfs.Clone(mem, disk, "/store", "/store"); err != nil || !ok {
			t.Fatal(ok, err)
		}
		flip(t, disk, table, int64(at))
		refused += readAll(t, disk, want)
	}
	if refused == 0 {
		t.Error("no wrong byte was noticed")
	}
}

// readAll reads each key of a damaged store and returns how many reads failed.
func readAll(t *testing.T, disk vfs.FS, want map[string]string) (refused int) {
	s, err := Open(t.Context(), Options{Path: "/store", FS: disk, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return 1
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for key, value := range want {
		switch e, err := s.Get(t.Context(), key); {
		case err != nil:
			refused++
		case string(e.Value) != value:
			t.Errorf("Get(%q) gave a wrong value and no error", key)
		}
	}
	found := 0
	for e, err := range s.Scan(t.Context(), "", "") {
		if err != nil {
			return refused + 1
		}
		if string(e.Value) != want[e.Key] {
			t.Errorf("Scan gave a wrong value for %q and no error", e.Key)
		}
		found++
	}
	if found != len(want) {
		t.Errorf("Scan gave %d entries of %d and no error", found, len(want))
	}
	return refused
}

func tableOf(t *testing.T, fs vfs.FS) string {
	files, err := fs.List("/store")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.HasSuffix(f, ".sst") {
			return "/store/" + f
		}
	}
	t.Fatalf("no table among %v", files)
	return ""
}

func contents(t *testing.T, fs vfs.FS, name string) []byte {
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

func flip(t *testing.T, fs vfs.FS, name string, at int64) {
	old := contents(t, fs, name)[at]
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{old ^ 0x10}, at)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCorruptLog: a wrong byte in the log, before later commits, is an error at opening, and does
// not silently lose these commits. This also holds near the log's end, and for any size of
// commits.
func TestCorruptLog(t *testing.T) {
	t.Parallel()
	for _, size := range []int{300, 20_000, 70_000} {
		mem := vfs.NewCrashableMem()
		s := open(t, Options{Path: "/store", FS: mem})
		for i := range 40 {
			until(t, s, storage.Set(fmt.Sprintf("key/%03d", i), random(size)))
		}
		for _, part := range []int64{2, 50, 90, 99} { // of a hundred
			// A killed process has lost nothing of what it wrote.
			disk := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
			name, length := longestLog(t, disk)
			flip(t, disk, name, length*part/100)
			damaged, err := Open(t.Context(), Options{Path: "/store", FS: disk})
			if err == nil {
				n := 0
				for range damaged.Scan(t.Context(), "", "") {
					n++
				}
				t.Errorf("commits of %d bytes, wrong at %d%%: opened with %d of 40 entries and no error", size, part,
					n)
				if err := damaged.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// longestLog returns the largest log.
func longestLog(t *testing.T, disk *vfs.MemFS) (name string, length int64) {
	t.Helper()
	files, err := disk.List("/store")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if n := int64(len(contents(t, disk, "/store/"+f))); strings.HasSuffix(f, ".log") && n >= length {
			name, length = "/store/"+f, n
		}
	}
	if length == 0 {
		t.Fatal("there is no log")
	}
	return name, length
}

// TestLogEnd: an unreadable file counts as empty, its number never decreases, and without it the
// store opens.
func TestLogEnd(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	s := open(t, Options{Path: "/store", FS: mem})
	for i := range 10 {
		until(t, s, storage.Set(fmt.Sprintf("key/%03d", i), random(300)))
	}
	disk := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	name, length := longestLog(t, disk)
	flip(t, disk, name, length/2)
	if _, err := Open(t.Context(), Options{Path: "/store", FS: disk}); err == nil ||
		!strings.Contains(err.Error(), logEndName) {
		t.Errorf("a damaged log's error does not say what to do: %v", err)
	}
	if err := disk.Remove("/store/" + logEndName); err != nil {
		t.Fatal(err)
	}
	left, err := Open(t.Context(), Options{Path: "/store", FS: disk})
	if err != nil {
		t.Fatalf("without it: %v", err)
	}
	until(t, left, storage.Set("key/after", []byte("x")))
	if err := left.Close(); err != nil {
		t.Error(err)
	}
	text := contents(t, disk, "/store/"+logEndName)
	if n := parseLogEnd(text); n == 0 {
		t.Errorf("it says %x", text)
	}
	for i := range text {
		torn := bytes.Clone(text)
		torn[i] ^= 1
		if n := parseLogEnd(torn); n != 0 {
			t.Errorf("torn, it says %d", n)
		}
		if n := parseLogEnd(text[:i]); n != 0 {
			t.Errorf("cut, it says %d", n)
		}
	}
}

func FuzzParseLayout(f *testing.F) {
	f.Add([]byte("keyturn storage layout 1\n"))
	f.Add([]byte("keyturn storage layout -1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parseLayout(text)
		if err != nil {
			return
		}
		if again, err := parseLayout(fmt.Appendf(nil, "%s%d\n", layoutPrefix, n)); n < 1 || err != nil || again != n {
			t.Errorf("parseLayout(%q) = %d, and that again %d, %v", text, n, again, err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x07value"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decode("k", raw, true)
		if err == nil && (e.Version == 0 || len(e.Value) != len(raw)-versionLen) {
			t.Errorf("decode(%q) = %+v", raw, e)
		}
	})
}
