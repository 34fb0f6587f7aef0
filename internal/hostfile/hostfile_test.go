//go:build unix

package hostfile

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyturn/keyturn/internal/fault"
)

func put(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func link(t *testing.T, to, path string) string {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	secret := put(t, filepath.Join(out, "key.pem"), "not yours")
	good := put(t, filepath.Join(in, "..data", "ca.pem"), "yours")
	f := Folders{in}
	for _, path := range []string{good, link(t, "..data/ca.pem", filepath.Join(in, "ca.pem"))} {
		if text, err := f.Read(path); err != nil || string(text) != "yours" {
			t.Errorf("Read(%q) = %q, %v", path, text, err)
		}
	}
	pipe := filepath.Join(in, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		"", "ca.pem", in, in + "/", in + "/../out/key.pem", in + "//ca.pem", in + "x", secret, out + "/absent",
		"/dev/zero", "/proc/self/pagemap", "/etc/hostname", "\x00",
		pipe, filepath.Join(in, "..data"), filepath.Join(in, "absent"),
		put(t, filepath.Join(in, "large"), strings.Repeat("x", MaxSize+1)),
		link(t, secret, filepath.Join(in, "absolute")), link(t, "../out/key.pem", filepath.Join(in, "relative")),
		link(t, "/dev/zero", filepath.Join(in, "device")),
	} {
		text, err := f.Read(path)
		if !fault.Is(err, fault.Invalid) || fault.Message(err) == "" || text != nil {
			t.Errorf("Read(%q) = %q, %v; want a refusal", path, text, err)
		}
		if strings.Contains(fault.Message(err), dir) {
			t.Errorf("Read(%q) repeats the path: %v", path, err)
		}
	}
}

// TestReadTellsNothing: an error does not tell whether a file is there that is not the client's to
// name.
func TestReadTellsNothing(t *testing.T) {
	dir := t.TempDir()
	there := put(t, filepath.Join(dir, "there"), "x")
	for _, f := range []Folders{nil, {}, {filepath.Join(dir, "other")}} {
		_, err := f.Read(there)
		_, absent := f.Read(filepath.Join(dir, "absent"))
		if err == nil || absent == nil || err.Error() != absent.Error() {
			t.Errorf("a file that is there: %v; one that is not: %v", err, absent)
		}
	}
	in := Folders{dir}
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := in.Read(filepath.Join(dir, "folder"))
	if _, absent := in.Read(filepath.Join(dir, "absent")); fault.Message(err) != fault.Message(absent) {
		t.Errorf("a folder: %v; nothing: %v", err, absent)
	}
}

func TestHold(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Dir(put(t, filepath.Join(dir, "in", "x"), ""))
	deep := filepath.Dir(put(t, filepath.Join(in, "deep", "x"), ""))
	out := filepath.Dir(put(t, filepath.Join(dir, "inside", "x"), ""))
	byLink := Folders{link(t, in, filepath.Join(dir, "link"))}
	for _, f := range []Folders{{in}, byLink} {
		for path, want := range map[string]bool{in: true, deep: true, out: false, dir: false} {
			if got, err := f.Hold(path); err != nil || got != want {
				t.Errorf("%q.Hold(%q) = %v, %v; want %v", f, path, got, err, want)
			}
		}
	}
	if got, err := (Folders{filepath.Join(dir, "absent")}).Hold(in); got || err != nil {
		t.Errorf("a listed folder that is not there holds %q: %v, %v", in, got, err)
	}
}

func TestSystem(t *testing.T) {
	for _, dir := range []string{
		"/etc", "/etc/cron.d", "/etc/logrotate.d", "/usr/lib/keyturn", "/lib/systemd/system", "/bin", "/dev/shm",
		"/run/keyturn", "/proc/self", "/var/spool/cron/crontabs", "/boot/grub",
		"/home/me/.ssh", "/root/.config", "/opt/app/conf.d", "/srv/profile.d/deep", "/var/www/html",
		"/private/etc/cron.d",
	} {
		if System(dir) == "" {
			t.Errorf("%s may be written to", dir)
		}
	}
	for _, dir := range []string{
		"/var/log/keyturn", "/var/log", "/var/lib/keyturn", "/data/audit", "/etcetera", "/home/me/logs",
		"/opt/keyturn/logs", t.TempDir(), "/",
	} {
		if why := System(dir); why != "" {
			t.Errorf("%s is refused: %s", dir, why)
		}
	}
}

// TestSystemByAnotherName: a folder of the system's under a name that says nothing, by a link in
// its path.
func TestSystemByAnotherName(t *testing.T) {
	if _, err := os.Stat("/etc/ssl"); err != nil {
		t.Skip(err)
	}
	if System(link(t, "/etc/ssl", filepath.Join(t.TempDir(), "innocent"))) == "" {
		t.Error("a link to /etc/ssl may be written to")
	}
}

// FuzzRead: whatever the path, nothing comes back that is not in the folder.
func FuzzRead(f *testing.F) {
	dir := f.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "outside"), []byte("outside"), 0o600); err != nil {
		f.Fatal(err)
	}
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o700); err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{"/x", "/../outside", "/./../outside", "\x00", "", "/..//outside", "/a/../../outside"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, rest string) {
		if text, err := (Folders{in}).Read(in + rest); err == nil || bytes.Contains(text, []byte("outside")) {
			t.Fatalf("Read(%q) = %q, %v", in+rest, text, err)
		}
	})
}
