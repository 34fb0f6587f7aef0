//go:build integration

package conformance

import (
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/demo/awsserver"
	"github.com/keyturn/keyturn/test/harness"
	"github.com/keyturn/keyturn/test/pgtest"
)

// unsupported are the suites about features that Keyturn does not have yet. A suite that passes
// must not be in it.
var unsupported = map[string]string{
	"approle-userpass": "the login methods approle and userpass are not implemented yet",
	"login-config":     "login methods besides tokens are not implemented yet",
	"identity":         "entities and groups are not implemented yet",
	"operator":         "quotas, key status and key rotation by request are not implemented yet",
}

func TestMain(m *testing.M) { os.Exit(harness.Main(m)) }

// TestSuites replays each suite against a development server with its own PostgreSQL and AWS.
func TestSuites(t *testing.T) {
	server := harness.Dev(t)
	vars := map[string]string{"postgres": pgtest.Start(t, pgtest.Options{}).Addr() + "/postgres", "aws": startAWS(t)}
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no suites in testdata: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			suite, err := Load(file)
			if err != nil {
				t.Fatal(err)
			}
			replay(t, &Session{Address: "http://" + server.Address, Root: server.Root, Vars: maps.Clone(vars)}, name,
				suite)
		})
	}
}

// replay replays a suite, with a subtest for each step. It also replays unsupported suites. If one
// passes, it must be removed from the list.
func replay(t *testing.T, s *Session, name string, suite *Suite) {
	why, absent := unsupported[name]
	good := 0
	for _, st := range suite.Steps {
		departs, err := s.Replay(t.Context(), st)
		if err != nil {
			departs = []string{err.Error()}
		}
		if absent {
			if len(departs) == 0 {
				good++
			}
			continue
		}
		t.Run(st.Label(), func(t *testing.T) {
			for _, d := range departs {
				t.Error(d)
			}
		})
	}
	switch {
	case absent && good == len(suite.Steps):
		t.Errorf("the suite %s passes: remove it from the list of suites about what is not built", name)
	case absent:
		t.Skipf("%s; %d of %d recorded answers are given", why, good, len(suite.Steps))
	}
}

// startAWS starts a server of AWS's IAM and STS calls with the administrator and the roles of the
// suites, and returns its address.
func startAWS(t *testing.T) string {
	t.Helper()
	a := awsserver.New(awsserver.Options{})
	a.AddAdmin(awsserver.Account, "keyturn", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
	for _, name := range []string{"ci", "deploy", "admin"} {
		a.AddRole(awsserver.Account, awsserver.Role{Name: name, MaxSession: 12 * time.Hour})
	}
	srv := httptest.NewServer(a)
	t.Cleanup(srv.Close)
	return srv.URL
}
