//go:build unix

package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/audit/audittest"
	"github.com/keyturn/keyturn/internal/fault"
)

func TestDevice(t *testing.T) {
	audittest.Run(t, Type, func(t *testing.T) audittest.Place {
		path := filepath.Join(t.TempDir(), "audit.log")
		return audittest.Place{
			Options: map[string]string{"file_path": path},
			Read:    func(t *testing.T) []byte { return read(t, path) },
			Cut: func(t *testing.T, n int) {
				if err := os.Truncate(path, int64(len(read(t, path))-n)); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func TestDiscard(t *testing.T) {
	audittest.Run(t, Type, func(*testing.T) audittest.Place {
		return audittest.Place{Options: map[string]string{"file_path": "discard"}, Shared: true}
	})
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func openAt(path string, options ...string) (audit.Device, error) {
	cfg := audit.Config{Path: "file/", Options: map[string]string{"file_path": path}}
	for i := 0; i < len(options); i += 2 {
		cfg.Options[options[i]] = options[i+1]
	}
	return Type.Open(cfg)
}

// TestRefusedPaths covers CVE-2025-6000 and CVE-2025-54997: an audit device must not write files
// that are executed, or that belong to others.
func TestRefusedPaths(t *testing.T) {
	dir := t.TempDir()
	storage := filepath.Join(dir, "storage")
	file := func(name, text string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mkdir := func(name string, mode fs.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := func(to, name string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	mkdir("storage/deep", 0o700)
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	foreignLine := `{"time":"2026-01-01T00:00:00Z","message":"another log"}` + "\n"
	for _, test := range []struct{ name, path, want string }{
		{"none", "", "file_path: it is missing"},
		{"relative", "audit.log", "not an absolute path"},
		{"dots", dir + "/x/../audit.log", "not an absolute path"},
		{"folder", dir, "not a regular file"},
		{"device", "/dev/null", "folder of the system"},
		{"pipe", pipe, "not a regular file"},
		{"link", link(filepath.Join(dir, "elsewhere"), "link"), "not a regular file"},
		{"no folder", filepath.Join(dir, "no", "audit.log"), "does not exist; create it"},
		{"executable", file("run", "", 0o700), "executable"},
		{"executable for others", file("run2", "", 0o601), "executable"},
		{"script", file("script", "#!/bin/sh\necho hello\n", 0o600), "is not an audit file"},
		{"short", file("short", "x", 0o600), "is not an audit file"},
		{"other log", file("log", foreignLine, 0o600), "is not an audit file"},
		{"other log, two lines", file("log2", foreignLine+`{"time":"20`, 0o600), "is not an audit file"},
		{"other log, unended", file("log3", strings.TrimSpace(foreignLine), 0o600), "is not an audit file"},
		{"storage", filepath.Join(storage, "audit.log"), "inside the server's storage"},
		{"deep in storage", filepath.Join(storage, "deep", "audit.log"), "inside the server's storage"},
		{"storage by a link", filepath.Join(link(filepath.Join(storage, "deep"), "way"), "audit.log"),
			"inside the server's storage"},
		// Lines contain texts that callers chose, and each of these files is executed or loaded by
		// some program: a shell, the linker, cron, a login.
		{"a script", filepath.Join(dir, "profile.sh"), "must end in .log"},
		{"a list of libraries", file("ld.so.preload", "", 0o600), "must end in .log"},
		{"a name without an ending", filepath.Join(dir, "crontab"), "must end in .log"},
		{"a hidden file", filepath.Join(dir, ".log"), "must end in .log"},
		{"an ending in capitals", filepath.Join(dir, "audit.LOG"), "must end in .log"},
		{"open folder", filepath.Join(mkdir("open", 0o777), "audit.log"), "everyone may replace"},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := snapshot(t, dir)
			d, err := Type.Open(audit.Config{
				Path: "file/", Options: map[string]string{"file_path": test.path}, StorageDir: storage,
			})
			if err == nil {
				d.Close()
				t.Fatalf("Open(%q) succeeded", test.path)
			}
			if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), test.want) {
				t.Errorf("Open(%q) = %v (%v), want Invalid with %q", test.path, err, fault.KindOf(err), test.want)
			}
			if after := snapshot(t, dir); after != before {
				t.Errorf("a refused path was changed:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// TestSystemFolders: logrotate, cron and others read files of any name in their folders. Audit
// files are refused there, unless the operator has listed the folder.
func TestSystemFolders(t *testing.T) {
	dir := t.TempDir()
	link := func(to, name string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	dotted := filepath.Join(dir, "rotate.d")
	if err := os.Mkdir(dotted, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"/etc/cron.d/a.log", "/etc/logrotate.d/a.log", "/etc/a.log", "/usr/lib/a.json", "/lib/systemd/system/a.log",
		"/bin/a.log", "/boot/a.log", "/dev/shm/a.log", "/run/a.log",
		"/proc/self/root/etc/a.log", "/sys/a.log", "/var/spool/cron/crontabs/a.log", "/etc/absent/a.log",
		"/root/.ssh/a.log",
		link("/etc", "etc") + "/a.log", link("/etc/cron.d", "innocent") + "/a.log", link(dir+"/etc", "twice") +
			"/cron.d/a.log", filepath.Join(dotted, "a.log"), link(dotted, "plain") + "/a.log",
	} {
		d, err := openAt(path)
		if err == nil {
			d.Close()
			os.Remove(path)
		}
		if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "audit_folders") {
			t.Errorf("Open(%q) = %v, want a refusal that names audit_folders", path, err)
		}
	}
}

// TestAuditFolders: with a list, audit files are only allowed in these folders, also through
// links.
func TestAuditFolders(t *testing.T) {
	dir := t.TempDir()
	mkdir := func(name string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	in, out, system := mkdir("in"), mkdir("out"), mkdir("listed.d")
	mkdir("in/deep")
	mkdir("inside")
	for name, to := range map[string]string{"in/away": out, "in/home": in, "other": in} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for path, allowed := range map[string]bool{
		"in/a.log": true, "in/deep/a.log": true, "in/home/b.log": true, "listed.d/a.log": true,
		"out/a.log": false, "inside/a.log": false, "a.log": false, "in/away/a.log": false, "other/c.log": false,
		"in": false,
	} {
		path = filepath.Join(dir, path)
		d, err := Type.Open(audit.Config{
			Path: "file/", Options: map[string]string{"file_path": path}, Folders: []string{in, system},
		})
		if err == nil {
			d.Close()
		}
		if allowed != (err == nil) || !allowed && !strings.Contains(fault.Message(err), "audit_folders") {
			t.Errorf("Open(%q) = %v, want allowed: %v", path, err, allowed)
		}
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("files %v were made where a link led, %v", left, err)
	}
}

// snapshot lists modes and sizes of all files below dir.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestForeignOwner: an empty file of another user is refused, because its owner could read the
// log.
func TestForeignOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Skipf("only root can give a file away: %v", err)
	}
	d, err := openAt(path)
	if err == nil {
		d.Close()
	}
	if !fault.Is(err, fault.Invalid) || !strings.Contains(fault.Message(err), "belongs to another user") {
		t.Errorf("Open = %v, want a refusal", err)
	}
}

func TestRefusedOptions(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	for _, test := range []struct{ name, value, want string }{
		{"mode", "0755", "executable"},
		{"mode", "0602", "let everyone write"},
		{"mode", "0400", "could not read and write"},
		{"mode", "rw", "in octal"},
		{"mode", "4600", "in octal"},
		{"path", "/elsewhere", "given twice"},
		{"colour", "blue", "no such option"},
	} {
		d, err := openAt(path, test.name, test.value)
		if err == nil {
			d.Close()
			t.Errorf("%s=%s was accepted", test.name, test.value)
		} else if !strings.Contains(fault.Message(err), test.want) {
			t.Errorf("%s=%s: %v, want %q", test.name, test.value, err, test.want)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a refused option left a file: %v", err)
	}
}

func TestMode(t *testing.T) {
	for _, test := range []struct {
		option   string
		existing fs.FileMode // 0: none
		want     fs.FileMode
	}{
		{"", 0, 0o600},
		{"0640", 0, 0o640},
		{"", 0o644, 0o600},
		{"0000", 0o640, 0o640},
		{"0000", 0, 0o600},
	} {
		path := filepath.Join(t.TempDir(), "audit.log")
		if test.existing != 0 {
			if err := os.WriteFile(path, nil, test.existing); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.existing); err != nil {
				t.Fatal(err)
			}
		}
		options := []string{}
		if test.option != "" {
			options = []string{"mode", test.option}
		}
		d, err := openAt(path, options...)
		if err != nil {
			t.Fatalf("mode %q: %v", test.option, err)
		}
		d.Close()
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != test.want {
			t.Errorf("mode %q on %v: %v, %v; want %v", test.option, test.existing, info.Mode(), err, test.want)
		}
	}
}

// TestFollow: if the file is moved or deleted, the next write goes to a new file with the same
// name.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	d, err := openAt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	put := func(line string) {
		t.Helper()
		if err := d.Write(t.Context(), []byte(line+"\n")); err != nil {
			t.Fatalf("Write(%s): %v", line, err)
		}
	}
	put("one")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	put("two")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put("three")
	if got := string(read(t, path)); got != "three\n" {
		t.Errorf("after deleting: %q", got)
	}
	if got := string(read(t, path+".1")); got != "one\n" {
		t.Errorf("the moved file: %q", got)
	}
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/null", path); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(t.Context(), []byte("four\n")); !fault.Is(err, fault.Invalid) {
		t.Errorf("Write to a link that took the file's place = %v, want a refusal", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put("five")
	if got := string(read(t, path)); got != "five\n" {
		t.Errorf("after the link was gone: %q", got)
	}
}

// TestChainAcrossFiles: the chain of a rotated file continues in the next one.
func TestChainAcrossFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	b := audit.NewBroker(audit.Options{})
	defer b.Close()
	spec := audit.Spec{
		Type: Type, Path: "file/", Options: map[string]string{"file_path": path}, Salt: audittest.Salt(),
	}
	if err := b.Enable(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	var after audit.Position
	for i := range 3 {
		if err := b.Write(t.Context(), audittest.Entry(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		report, err := audit.VerifyAfter(after, bytes.NewReader(read(t, path)))
		if err != nil || !report.OK() || report.Lines != 2 {
			t.Fatalf("file %d: %+v, %v", i, report, err)
		}
		after = report.Last
		if got := b.Positions()["file/"]; got != after {
			t.Errorf("Positions = %v, the file ends at %v", got, after)
		}
		if err := os.Rename(path, fmt.Sprint(path, ".", i)); err != nil {
			t.Fatal(err)
		}
		if err := b.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFull writes to a real descriptor that has no space.
func TestFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this system has no /dev/full")
	}
	info, err := full.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d := &file{path: "/dev/full", f: full, id: info}
	defer d.Close()
	if err := d.Write(t.Context(), []byte("line\n")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Write on a full disk = %v, want ENOSPC", err)
	}
}

// halfway writes a part, or everything, and then fails.
type halfway struct {
	bytes.Buffer
	broken int // writes of lines that will fail
	all    bool
}

func (w *halfway) Write(p []byte) (int, error) {
	if w.broken == 0 || len(p) == 1 {
		return w.Buffer.Write(p)
	}
	w.broken--
	if !w.all {
		p = p[:len(p)-4]
	}
	n, _ := w.Buffer.Write(p)
	return n, syscall.EPIPE
}

func TestStreamBrokenWrite(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprint("all=", all), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testStreamBrokenWrite(t, all) })
		})
	}
}

// testStreamBrokenWrite runs in a bubble.
func testStreamBrokenWrite(t *testing.T, all bool) {
	out := &halfway{all: all}
	typ := audit.Type{Name: "stream", Open: func(audit.Config) (audit.Device, error) { return &stream{out: out}, nil }}
	b := audit.NewBroker(audit.Options{})
	if err := b.Enable(t.Context(), audit.Spec{Type: typ, Path: "stdout/", Salt: audittest.Salt()}); err != nil {
		t.Fatal(err)
	}
	out.broken = 3 // the write and two probes
	if err := b.Write(t.Context(), audittest.Entry("1"), audittest.Entry("2")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("Write = %v, want Unavailable", err)
	}
	time.Sleep(2 * time.Second)
	if err := b.Write(t.Context(), audittest.Entry("3")); err != nil {
		t.Errorf("Write after the probe: %v", err)
	}
	b.Close()
	report, err := audit.Verify(&out.Buffer)
	torn := 3
	if all {
		torn = 0
	}
	if err != nil || !report.OK() || report.Torn != torn {
		t.Errorf("%+v, %v; want %d torn", report, err, torn)
	}
}
