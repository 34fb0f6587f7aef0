//go:build integration && linux

package system

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// TestFullDisk fills the disk of the store with other files and by writing to the store. Writes
// are refused within seconds, reads continue, and writes continue without a restart when there is
// space again. No acknowledged write is lost.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	const size = 200 << 20
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", size)); err != nil {
		if os.Getenv("KEYTURN_TEST_REQUIRE_ROOT") != "" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED: a full disk needs a disk that can be filled, and mounting one failed (not root?): %v",
			err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := harness.Ready(t, harness.Options{Data: filepath.Join(disk, "data")})
	t.Cleanup(s.Kill) // before the disk is unmounted
	c := s.Client(s.Root)
	c.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "1"}})
	acked := map[string]string{}
	write := func(key, value string) int {
		t.Helper()
		begin := time.Now()
		a, err := c.Do("PUT", "kv/"+key, object{"x": value})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > await.Patience {
			t.Errorf("a write was answered with %d after %s", a.Status, took)
		}
		switch a.Status {
		case 204:
			acked[key] = value
		case 503:
			if !strings.Contains(string(a.Body), "space") && !strings.Contains(string(a.Body), "full") &&
				!strings.Contains(string(a.Body), "try again") {
				t.Errorf("the refusal does not say why: %s", a.Body)
			}
			delete(acked, key) // the write is uncertain
		default:
			t.Fatalf("writing: %s", body(a))
		}
		return a.Status
	}
	write("before", "1")
	for round, fill := range []func(){
		func() { occupy(t, filepath.Join(disk, "foreign"), 1<<30) }, // by other files, to the last byte
		func() {
			pad := strings.Repeat("p", 900_000)
			for i := 0; write(fmt.Sprintf("pad/%d", i%400), pad) == 204; i++ {
				if i > 2000 {
					t.Fatal("the disk does not fill up")
				}
			}
		},
	} {
		fill()
		await.Eventually(t, "writes are refused", func() bool { return write("during", "2") == 503 })
		if got := c.Must(t, "GET", "kv/before", nil).Text("data", "x"); got != "1" {
			t.Errorf("read %q while the disk is full", got)
		}
		c.Must(t, "GET", "auth/token/lookup-self", nil, 200)
		c.Must(t, "GET", "sys/health", nil, 200)
		if round == 0 {
			if err := os.Remove(filepath.Join(disk, "foreign")); err != nil {
				t.Fatal(err)
			}
			await.Eventually(t, "writes go on", func() bool { return write("after", "3") == 204 })
		}
	}
	if err := syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT,
		fmt.Sprintf("size=%d,mode=0700", 4*size)); err != nil {
		t.Fatal(err)
	}
	await.Eventually(t, "writes go on in a larger disk", func() bool { return write("larger", "4") == 204 })
	for range 2 {
		for key, value := range acked {
			if got := c.Must(t, "GET", "kv/"+key, nil).Text("data", "x"); got != value {
				t.Errorf("%s has %d bytes, want %d", key, len(got), len(value))
			}
		}
		s.Kill()
		s.StartServing(t)
	}
}

// occupy writes a file until the disk is full.
func occupy(t *testing.T, path string, most int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<16)
	for range most / len(block) {
		if _, err := f.Write(block); err != nil {
			return // the disk is full
		}
	}
	t.Fatal("the disk is larger than thought")
}
