//go:build integration

package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// A line is the part of an audit line that the tests read.
type line struct {
	Type string
	Auth struct {
		Policies []string
		Results  struct{ Allowed bool } `json:"policy_results"`
	}
	Request struct {
		ID, Operation, Path string
	}
	Error string
}

// auditFile creates an audit log in a folder of its own.
func auditFile(t *testing.T, s *harness.Server, name string) string {
	t.Helper()
	dir := filepath.Join(s.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, "audit.log")
	s.Client(s.Root).Must(t, "PUT", "sys/audit/"+name, object{"type": "file", "options": object{"file_path": log}})
	return log
}

// readLines reads an audit log and checks its chain, which may continue another one.
func readLines(t *testing.T, path string, after *audit.Position) ([]line, audit.Position) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	report, err := audit.Verify(bytes.NewReader(text))
	if after != nil {
		report, err = audit.VerifyAfter(*after, bytes.NewReader(text))
	}
	if err != nil || !report.OK() {
		t.Errorf("%s is no chain: %v %v", path, report.Problems, err)
	}
	var lines []line
	for l := range strings.Lines(string(text)) {
		var one line
		if err := json.Unmarshal([]byte(l), &one); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		lines = append(lines, one)
	}
	return lines, report.Last
}

// TestAuditLines checks that the log has both lines of each request, whatever its result.
func TestAuditLines(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	root := s.Client(s.Root)
	root.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "2"}})
	root.Must(t, "PUT", "sys/policies/acl/maker", object{"policy": `path "kv/data/*" { capabilities = ["create"] }`})
	maker := s.Client(
		root.Must(t, "POST", "auth/token/create", object{"policies": []string{"maker"}}).Text("auth", "client_token"))
	log := auditFile(t, s, "log")
	weak := s.Client(root.Must(t, "POST", "auth/token/create", object{"policies": []string{"default"}}).Text("auth",
		"client_token"))
	for _, r := range []struct {
		who          *harness.Client
		method, path string
		body         any
		status       int
		operation    string
		allowed      bool
		says         string
	}{
		{maker, "PUT", "kv/data/a", object{"data": object{"x": "y"}}, 200, "create", true, ""},
		{maker, "PUT", "kv/data/a", object{"data": object{"x": "y"}}, 403, "update", false, "permission denied"},
		{root, "PUT", "kv/data/a", object{"data": object{"x": "z"}}, 200, "update", true, ""},
		{root, "GET", "kv/data/a", nil, 200, "read", true, ""},
		{root, "GET", "kv/data/none", nil, 404, "read", true, ""},
		{root, "PUT", "kv/data/a", object{"options": object{"cas": 9}, "data": object{}}, 400, "update", true,
			"check-and-set"},
		{root, "LIST", "kv/metadata", nil, 200, "list", true, ""},
		{weak, "GET", "kv/data/a", nil, 403, "read", false, "permission denied"},
		{weak, "PUT", "sys/policies/acl/x", object{"policy": ""}, 403, "update", false, "permission denied"},
		{s.Client("hvs.nobody"), "GET", "kv/data/b", nil, 403, "read", false, "permission denied"},
		{s.Client(""), "GET", "kv/data/c", nil, 403, "read", false, ""},
		{root, "GET", "no/such/mount", nil, 404, "read", true, "no handler"},
		{root, "DELETE", "kv/metadata/a", nil, 204, "delete", true, ""},
	} {
		before, _ := readLines(t, log, nil)
		r.who.Must(t, r.method, r.path, r.body, r.status)
		lines, _ := readLines(t, log, nil)
		fresh := lines[len(before):]
		if len(fresh) != 2 || fresh[0].Type != "request" || fresh[1].Type != "response" ||
			fresh[0].Request.ID != fresh[1].Request.ID {
			t.Errorf("%s %s: lines %+v", r.method, r.path, fresh)
			continue
		}
		for _, l := range fresh {
			if strings.TrimSuffix(l.Request.Path, "/") != r.path || l.Request.Operation != r.operation ||
				l.Auth.Results.Allowed != r.allowed {
				t.Errorf("%s %s: %+v, want operation %s, allowed %t", r.method, r.path, l, r.operation, r.allowed)
			}
		}
		if !strings.Contains(fresh[1].Error, r.says) || r.status >= 400 && r.status != 404 && fresh[1].Error == "" {
			t.Errorf("%s %s: error %q, want %q", r.method, r.path, fresh[1].Error, r.says)
		}
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v %v", info.Mode(), err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for what, forged := range map[string][]byte{
		"a line taken out": bytes.Join(append(append([][]byte{}, lines[:3]...), lines[4:]...), nil),
		"a line changed":   bytes.Replace(text, []byte(`"allowed":false`), []byte(`"allowed":true`), 1),
	} {
		if report, err := audit.Verify(bytes.NewReader(forged)); err != nil || report.OK() {
			t.Errorf("%s is not noticed: %v", what, err)
		}
	}
}

// TestAuditFails removes the folder of the only device. Requests without a line are refused,
// except those with which an operator can recover the server.
func TestAuditFails(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	root := s.Client(s.Root)
	root.Must(t, "POST", "sys/mounts/kv", object{"type": "kv", "options": object{"version": "2"}})
	root.Must(t, "PUT", "kv/data/a", object{"data": object{"x": "before"}})
	auditor := `path "sys/audit/*" { capabilities = ["update", "delete", "sudo"] }`
	root.Must(t, "PUT", "sys/policies/acl/auditor", object{"policy": auditor})
	root.Must(t, "PUT", "sys/policies/acl/almost", object{"policy": strings.Replace(auditor, `, "sudo"`, "", 1)})
	token := func(policy string) *harness.Client {
		return s.Client(root.Must(t, "POST", "auth/token/create", object{"policies": []string{policy}}).Text("auth",
			"client_token"))
	}
	may, almost := token("auditor"), token("almost")
	log := auditFile(t, s, "log")
	dir := filepath.Dir(log)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}

	for _, r := range [][2]string{
		{"GET", "kv/data/a"}, {"PUT", "kv/data/a"}, {"DELETE", "kv/data/a"}, {"GET", "sys/mounts"},
		{"POST", "auth/token/create"}, {"GET", "auth/token/lookup-self"},
		{"GET", "sys/internal/ui/mounts/kv"}, {"PUT", "sys/audit/second"}, {"GET", "no/such/mount"},
	} {
		a := root.Must(t, r[0], r[1],
			object{"data": object{"x": "after"}, "type": "file", "options": object{"file_path": dir + "/x"}}, 503)
		if !strings.Contains(string(a.Body), "audit") {
			t.Errorf("%s %s does not say why: %s", r[0], r[1], a.Body)
		}
	}
	for _, path := range []string{"sys/health", "sys/seal-status", "sys/leader", "sys/init"} {
		s.Client("").Must(t, "GET", path, nil, 200)
	}
	s.Client("").Must(t, "PUT", "sys/audit/log", nil, 503)
	almost.Must(t, "DELETE", "sys/audit/log", nil, 403, 503)

	// A restart must not turn "no device works" into "there is no device".
	s.Kill()
	s.StartServing(t)
	root.Must(t, "GET", "kv/data/a", nil, 503)

	// When the folder is back, the server works again on its own.
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	await.Eventually(t, "requests are served again", func() bool {
		a, err := root.Do("GET", "kv/data/a", nil)
		return err == nil && a.Status == 200
	})
	if got := root.Must(t, "GET", "kv/data/a", nil).Text("data", "data", "x"); got != "before" {
		t.Errorf("a refused write had an effect: %q", got)
	}
	readLines(t, log, nil)

	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	root.Must(t, "GET", "kv/data/a", nil, 503)
	may.Must(t, "DELETE", "sys/audit/log", nil, 204)
	root.Must(t, "GET", "kv/data/a", nil, 200)
}

// TestAuditSealsWhileFailing seals a server whose only device fails.
func TestAuditSealsWhileFailing(t *testing.T) {
	t.Parallel()
	s := harness.New(t, harness.Options{Shamir: true})
	s.Start(t)
	s.Init(t, 1, 1)
	root := s.Client(s.Root)
	unseal(t, root, s.Keys[0], 0)
	log := auditFile(t, s, "log")
	move := func(from, to string) {
		t.Helper()
		if err := os.Rename(filepath.Dir(log)+from, filepath.Dir(log)+to); err != nil {
			t.Fatal(err)
		}
	}
	move("", ".away")
	root.Must(t, "GET", "sys/mounts", nil, 503)
	root.Must(t, "PUT", "sys/seal", nil, 204)
	await.Eventually(t, "it is sealed", func() bool { return sealed(t, root) })
	unseal(t, root, s.Keys[0], 0)
	root.Must(t, "GET", "sys/mounts", nil, 503)

	// The line about the seal is written once a device works.
	move(".away", "")
	await.Eventually(t, "the owed lines are written", func() bool {
		lines, _ := readLines(t, log, nil)
		n := 0
		for _, l := range lines {
			if l.Request.Path == "sys/seal" {
				n++
			}
		}
		return n == 2
	})
	move("", ".away")
	root.Must(t, "GET", "sys/mounts", nil, 503)
	root.Must(t, "DELETE", "sys/audit/log", nil, 204)
	root.Must(t, "GET", "sys/mounts", nil, 200)
}

// TestAuditTwoDevices checks that one working device of two is enough.
func TestAuditTwoDevices(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	root := s.Client(s.Root)
	one, two := auditFile(t, s, "one"), auditFile(t, s, "two")
	if err := os.Rename(filepath.Dir(one), filepath.Dir(one)+".away"); err != nil {
		t.Fatal(err)
	}
	var before []line
	await.Eventually(t, "the second device has the answer of its own request, for which the first one was enough",
		func() bool { before, _ = readLines(t, two, nil); return len(before) == 2 })
	root.Must(t, "GET", "sys/mounts", nil)
	if after, _ := readLines(t, two, nil); len(after) != len(before)+2 {
		t.Errorf("%d lines after %d", len(after), len(before))
	}
	metrics := string(root.Must(t, "GET", "sys/metrics?format=prometheus", nil).Body)
	if !strings.Contains(metrics, "audit") {
		t.Error("the metrics say nothing of audit devices")
	}
}

// TestAuditRotation moves the log away, as logrotate does, with and without a signal. The new file
// continues the chain of the old one.
func TestAuditRotation(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	root := s.Client(s.Root)
	log := auditFile(t, s, "log")
	last := &audit.Position{}
	for i, tell := range []bool{true, false, true} {
		root.Must(t, "GET", "sys/mounts", nil)
		moved := log + "." + string(rune('1'+i))
		if err := os.Rename(log, moved); err != nil {
			t.Fatal(err)
		}
		if tell {
			s.Hangup(t)
			await.Eventually(t, "the file is there anew", func() bool { _, err := os.Stat(log); return err == nil })
		}
		root.Must(t, "GET", "sys/mounts", nil)
		_, end := readLines(t, moved, last)
		last = &end
	}
	s.Stop(t)
	s.StartServing(t)
	root.Must(t, "GET", "sys/mounts", nil)
	readLines(t, log, last)
}

// TestAuditRefusesPaths checks that an audit file cannot overwrite files that the server, or
// anybody, runs or reads.
func TestAuditRefusesPaths(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	root := s.Client(s.Root)
	ours := filepath.Join(s.Dir, "somebodys.txt")
	if err := os.WriteFile(ours, []byte("not an audit log\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(s.Dir, "link.log")
	if err := os.Symlink(ours, link); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(s.Dir, "open")
	if err := errors.Join(os.Mkdir(open, 0o777), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	executable := filepath.Join(s.Dir, "run.log")
	if err := os.WriteFile(executable, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for what, options := range map[string]object{
		"nothing": {}, "relative": {"file_path": "audit.log"}, "dots": {"file_path": s.Dir + "/../audit.log"},
		"in the store": {"file_path": s.Data + "/audit.log"},
		"a folder":     {"file_path": s.Dir}, "a device": {"file_path": "/dev/null"}, "not ours": {"file_path": ours},
		"a link":     {"file_path": link},
		"executable": {"file_path": executable}, "executable mode": {"file_path": s.Dir + "/m.log", "mode": "0755"},
		"prefix":    {"file_path": s.Dir + "/p.log", "prefix": "#!/bin/sh\n"},
		"no folder": {"file_path": s.Dir + "/no/such/audit.log"}, "open folder": {"file_path": open + "/audit.log"},
	} {
		a := root.Must(t, "PUT", "sys/audit/x", object{"type": "file", "options": options}, 400)
		if !strings.Contains(string(a.Body), "file_path") && !strings.Contains(string(a.Body), "mode") &&
			!strings.Contains(string(a.Body), "prefix") {
			t.Errorf("%s: the error names no option: %s", what, a.Body)
		}
	}
	if text, err := os.ReadFile(ours); err != nil || string(text) != "not an audit log\n" {
		t.Errorf("somebody's file: %q %v", text, err)
	}
}
