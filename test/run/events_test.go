package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// events is the output of go test -json for packages that pass, fail, do not build, end early and
// have no tests.
const events = `{"Action":"start","Package":"m/a"}
{"Action":"run","Package":"m/a","Test":"TestA"}
{"Action":"output","Package":"m/a","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"pass","Package":"m/a","Test":"TestA/sub","Elapsed":0}
{"Action":"pass","Package":"m/a","Test":"TestA","Elapsed":0.1}
{"Action":"output","Package":"m/a","Test":"TestS","Output":"=== RUN   TestS\n"}
{"Action":"output","Package":"m/a","Test":"TestS","Output":"    s_test.go:9: no disk to fill\n"}
{"Action":"output","Package":"m/a","Test":"TestS","Output":"--- SKIP: TestS (0.00s)\n"}
{"Action":"skip","Package":"m/a","Test":"TestS","Elapsed":0}
{"Action":"output","Package":"m/a","Test":"TestF","Output":"    f_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"m/a","Test":"TestF","Elapsed":0}
{"Action":"fail","Package":"m/a","Elapsed":1.5}
{"ImportPath":"m/b [m/b.test]","Action":"build-output","Output":"b_test.go:4: undefined: x\n"}
{"ImportPath":"m/b [m/b.test]","Action":"build-fail"}
{"Action":"output","Package":"m/b","Output":"FAIL\tm/b [build failed]\n"}
{"Action":"fail","Package":"m/b","Elapsed":0,"FailedBuild":"m/b [m/b.test]"}
{"Action":"output","Package":"m/c","Output":"exit status 3\n"}
{"Action":"fail","Package":"m/c","Elapsed":0}
{"Action":"skip","Package":"m/none","Elapsed":0}
{"Action":"pass","Package":"m/d","Elapsed":2}
`

func TestReadEvents(t *testing.T) {
	var packages []string
	got, err := readEvents(strings.NewReader(events), func(r result) { packages = append(packages, r.test+r.text) })
	if err != nil {
		t.Fatal(err)
	}
	if got.counts() != "2 passed, 3 failed, 1 skipped" {
		t.Errorf("counts: %s", got.counts())
	}
	if diff := cmp.Diff([]string{"m/aFAIL", "m/bFAIL", "m/cFAIL", "m/d"}, packages); diff != "" {
		t.Errorf("packages that ended (-want +got):\n%s", diff)
	}
	var out strings.Builder
	got.report(&out)
	for _, want := range []string{
		"SKIPPED m/a TestS: s_test.go:9: no disk to fill\n",
		"FAILED m/a TestF\n    f_test.go:3: got 1, want 2\n",
		"b_test.go:4: undefined: x", "FAILED m/c\nexit status 3\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report does not have %q:\n%s", want, &out)
		}
	}
}

// TestRun has parts that succeed, fail and are not there: each is run, and the last line counts
// them all.
func TestRun(t *testing.T) {
	var out strings.Builder
	ok := run(t.Context(), []part{
		{name: "bad", command: []string{"sh", "-c", "echo why; exit 1"}},
		{name: "absent", command: []string{"/there/is/no/such/program"}},
		{name: "good", command: []string{"true"}},
	}, &out)
	if ok {
		t.Error("all is said to be well")
	}
	if !strings.HasSuffix(out.String(), "\n1 passed, 2 failed, 0 skipped\n") ||
		!strings.Contains(out.String(), "FAILED bad\nwhy\nexit status 1\n") {
		t.Errorf("it printed\n%s", &out)
	}
	out.Reset()
	if !run(t.Context(), []part{{name: "good", command: []string{"true"}}}, &out) {
		t.Errorf("a run in which nothing failed is said to have failed:\n%s", &out)
	}
	if run(t.Context(), nil, &out) {
		t.Error("a run of nothing is said to be well")
	}
}

func TestServiceTests(t *testing.T) {
	packages, pattern, err := serviceTests("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"test/system", "test/conformance", "cmd/keyturn"} {
		if !strings.Contains(strings.Join(packages, " "), want) {
			t.Errorf("%s is not among the packages with tests of real services: %v", want, packages)
		}
	}
	if !strings.Contains(pattern, "|TestSuites|") || strings.Contains(pattern, "TestServiceTests") ||
		strings.Contains(pattern, "TestMain") {
		t.Errorf("the tests of real services are %s", pattern)
	}
}
