//go:build integration

package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/test/await"
	"github.com/keyturn/keyturn/test/harness"
)

// denied are the objects that the caller may not access, although it may do anything else: their
// paths, and the fields of a write.
var denied = map[string]string{
	"kv1/denied/a":            `{"x":"overwritten"}`,
	"kv2/data/denied/a":       `{"data":{"x":"overwritten"}}`,
	"kv2/metadata/denied/a":   `{"custom_metadata":{"x":"overwritten"}}`,
	"kv2/delete/denied/a":     `{"versions":[1]}`,
	"kv2/destroy/denied/a":    `{"versions":[1]}`,
	"kv2/subkeys/denied/a":    `{}`,
	"kv1/denied":              `{"x":"overwritten"}`,
	"kv2/metadata/denied":     `{}`,
	"sys/policies/acl/denied": `{"policy":"path \"y\" {}"}`,
	"sys/policy/denied":       `{"policy":"path \"y\" {}"}`,
	"sys/mounts/kv3":          `{"type":"kv"}`,
}

const anythingBut = `
path "*"                       { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }
path "kv1/denied*"             { capabilities = ["deny"] }
path "kv2/+/denied"            { capabilities = ["deny"] }
path "kv2/+/denied/*"          { capabilities = ["deny"] }
path "sys/policies/acl/denied" { capabilities = ["deny"] }
path "sys/policy/denied"       { capabilities = ["deny"] }
path "sys/mounts/kv3"          { capabilities = ["deny"] }
path "sys/mounts/kv3/*"        { capabilities = ["deny"] }
path "sys/raw/*"               { capabilities = ["deny"] }
`

// TestHostilePaths sends each spelling of a path that some server has treated like an allowed one.
// The denied objects are never read, listed, changed or deleted, and the audit log has each
// request under the path that the policy checked.
func TestHostilePaths(t *testing.T) {
	t.Parallel()
	s := harness.Ready(t, harness.Options{})
	root := s.Client(s.Root)
	log := filepath.Join(s.Dir, "audit.log")
	for _, version := range []string{"1", "2", "3"} {
		root.Must(t, "POST", "sys/mounts/kv"+version,
			object{"type": "kv", "options": object{"version": min(version, "2")}})
	}
	const canary = "CANARY-6d1f"
	root.Must(t, "PUT", "kv1/denied/a", object{"x": canary})
	root.Must(t, "PUT", "kv1/denied/"+canary, object{"x": "1"})
	root.Must(t, "PUT", "kv2/data/denied/a", object{"data": object{canary: canary}})
	root.Must(t, "PUT", "kv2/metadata/denied/a", object{"custom_metadata": object{"note": canary}})
	root.Must(t, "PUT", "kv2/data/denied/"+canary, object{"data": object{"x": "1"}})
	root.Must(t, "PUT", "sys/policies/acl/denied", object{"policy": "# " + canary + "\npath \"x\" {}"})
	root.Must(t, "PUT", "sys/policies/acl/anything-but", object{"policy": anythingBut})
	// Only these may contain the canary, because policies and mounts may be listed.
	token := root.Must(t, "POST", "auth/token/create",
		object{"policies": []string{"anything-but"}, "no_default_policy": true}).Text("auth", "client_token")
	root.Must(t, "PUT", "sys/audit/file",
		object{"type": "file", "options": object{"file_path": log, "hmac_accessor": "false"}})
	before := deniedState(t, root)

	allowed, answered := 0, 0
	for path, body := range denied {
		for _, target := range disguises(path) {
			for _, method := range []string{"GET", "LIST", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "get",
				"GET?list=true", "GET?version=1"} {
				verb, query, _ := strings.Cut(method, "?")
				if query != "" {
					query = "?" + query
				}
				text := ""
				if verb == "POST" || verb == "PUT" || verb == "PATCH" {
					text = body
				}
				answer, err := harness.Raw(s.Address,
					harness.Line(verb, target+query, token, text, "Content-Type", "application/merge-patch+json"),
					await.Patience)
				if err != nil {
					t.Fatalf("%s %s: %v", method, target, err)
				}
				if strings.Contains(answer, canary) {
					t.Errorf("%s %s: the answer has the canary: %s", method, target, answer)
				}
				answered++
				if harness.StatusOf(answer) < 300 {
					allowed++ // it may be another object with a similar name
				}
			}
		}
	}
	if after := deniedState(t, root); after != before {
		t.Errorf("what is denied has changed: before\n%s\nafter\n%s", before, after)
	}
	judged := checkJudged(t, log)
	t.Logf("%d requests, %d with success, %d judged as denied", answered, allowed, judged)
	if allowed == 0 || judged < len(denied)*5 {
		t.Errorf("%d succeeded and %d were denied: the test tests nothing", allowed, judged)
	}
}

// deniedState returns everything that the caller may not change.
func deniedState(t *testing.T, root *harness.Client) string {
	t.Helper()
	var all strings.Builder
	for _, path := range []string{"kv1/denied/a", "kv2/data/denied/a", "kv2/metadata/denied/a",
		"sys/policies/acl/denied", "sys/mounts/kv3"} {
		a := root.Must(t, "GET", path, nil)
		data, err := json.Marshal(a.Get("data"))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(path + " " + string(data) + "\n")
	}
	return all.String()
}

// checkJudged checks the audit log: a path below a denied one was refused, no path could be read
// as a different one, and an allowed path reached the mount at its beginning.
func checkJudged(t *testing.T, log string) (refused int) {
	t.Helper()
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e struct {
			Type string
			Auth struct {
				Policies []string
				Results  struct{ Allowed bool } `json:"policy_results"`
			}
			Request struct {
				Path  string
				Mount string `json:"mount_point"`
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Type != "request" || len(e.Auth.Policies) != 1 || e.Auth.Policies[0] != "anything-but" {
			continue
		}
		if isDenied(e.Request.Path) {
			if refused++; e.Auth.Results.Allowed {
				t.Errorf("it was allowed: %s", line)
			}
		}
		for seg := range strings.SplitSeq(strings.TrimSuffix(e.Request.Path, "/"), "/") {
			if seg == "" || seg == "." || seg == ".." {
				t.Errorf("path %q is not canonical", e.Request.Path)
			}
		}
		if e.Auth.Results.Allowed && e.Request.Mount != "" && !strings.HasPrefix(e.Request.Path+"/", e.Request.Mount) {
			t.Errorf("path %q was judged and %q asked", e.Request.Path, e.Request.Mount)
		}
	}
	return refused
}

func isDenied(path string) bool {
	for p := range denied {
		if path == p || strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

// disguises returns spellings that a server might treat like the path.
func disguises(path string) []string {
	v1 := "/v1/" + path
	all := []string{
		v1, v1 + "/", v1 + "//", v1 + "/.", v1 + "/..", v1 + "/x/..", v1 + "/%2e", v1 + "/x/%2e%2e",
		v1 + "/x/%252e%252e", v1 + "%2f", v1 + "%2F..%2F",
		v1 + "%00", v1 + "%00/x", v1 + "%20", v1 + "%09", v1 + "%0a", v1 + ".", v1 + "..", v1 + ";x=y", v1 + "?",
		v1 + "?x=/../..", v1 + "#x", v1 + "%23", v1 + "%3f",
		v1 + "\\", v1 + "%5c", v1 + "%5c..", v1 + "*", v1 + "%c0%af", v1 + "%c0%80", v1 + "%ff", v1 + "%e2%80%8b",
		v1 + "%ef%bc%8f", v1 + "%u002f",
		"//v1/" + path, "/v1//" + path, "/v1/./" + path, "/./v1/" + path, "/v1/../v1/" + path, "/x/../v1/" + path,
		"/V1/" + path, "/%76%31/" + path, "/v1%2f" + path,
		"/v1/%2e/" + path, "/v1/open/../" + path, "/v1/open/%2e%2e/" + path, "/v1/kv1/open/%2e%2e/%2e%2e/" + path,
		"/v1/open%2f..%2f" + path,
		"/v1/sys/../" + path, "/v1/cubbyhole/../" + path, "/v1/root/" + path, "/v1/%20" + path, "http://keyturn" + v1,
		"http://other:1//v1/" + path, "/v1/" + strings.ToUpper(path),
		"/v1/" + strings.ReplaceAll(path, "denied", "Denied"), "/v1/" + strings.ReplaceAll(path, "denied", "%64enied"),
		"/v1/" + strings.ReplaceAll(path, "denied", "%2564enied"),
		"/v1/" + strings.ReplaceAll(path, "denied", "denie%64"),
		"/v1/" + strings.ReplaceAll(path, "denied", "den%C4%B1ed"),
		"/v1/" + strings.ReplaceAll(path, "denied", "denied%CC%81"),
		"/v1/" + strings.ReplaceAll(path, "denied", "*"), "/v1/" + strings.ReplaceAll(path, "denied", "+"),
		"/v1/" + strings.ReplaceAll(path, "denied", "denied%2e"),
	}
	for _, slash := range []string{"//", "/./", "/x/../", "%2f", "%2F", "%252f", "%252F", "%25252f", "\\", "%5c",
		"/%2e/", "/%2e%2e/", "/;/", "/%00/", "%00/", "/%2f", "%2f/", "/.%2e/", "/%c0%ae/"} {
		all = append(all, "/v1/"+strings.ReplaceAll(path, "/", slash), "/v1/"+strings.Replace(path, "/", slash, 1))
		if i := strings.LastIndex(path, "/"); i > 0 {
			all = append(all, "/v1/"+path[:i]+slash+path[i+1:])
		}
	}
	return all
}
