package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A part is one command of the tests.
type part struct {
	name    string
	about   string
	command []string
	environ []string // added to the environment
}

// tests says whether the part's command prints the events of go test.
func (p part) tests() bool { return len(p.command) > 1 && p.command[1] == "test" }

// parts returns all parts in their order: first those that are quick and fail most often.
func parts() ([]part, error) {
	hermetic, err := otherPackages(house)
	if err != nil {
		return nil, err
	}
	packages, pattern, err := serviceTests(".")
	if err != nil {
		return nil, err
	}
	return []part{
		{name: "prepare", about: "what the tests run against is installed", command: []string{"./test/prepare.sh"}},
		{name: "vet", about: "vet, with the tests of real services",
			command: []string{goTool(), "vet", "-tags", "integration", "./..."}},
		{name: "house", about: "the rules of the house, and the reference", command: goTest(house...)},
		{name: "hermetic", about: "all packages under the race detector, without services",
			command: goTest(append([]string{"-race", "-shuffle=on"}, hermetic...)...)},
		{name: "leases", about: "a million leases; a target that is gone",
			command: goTest("-run", "TestManyLeases|TestDeadTarget",
				"./test/inprocess", "-leases", "1000000", "-dead", "100000")},
		{name: "commits", about: "a crash at each commit of a history",
			command: goTest("-run", "TestCrashAtEveryCommit|TestUnknownCommits", "./test/inprocess", "-every", "1")},
		{name: "crashes", about: "2,000 seeded histories of what rotates, with two servers that crash",
			command: goTest("-run", "TestCrashes",
				"./internal/engine/rotation", "./internal/engine/aws", "./internal/engine/database", "-crashes",
				"667")},
		{name: "services",
			about: "PostgreSQL, MariaDB, Redis, Terraform, hvac, the built binary, the recorded answers of a " +
				"reference server", environ: []string{"KEYTURN_TEST_REQUIRE=1"},
			command: goTest(append([]string{"-tags", "integration", "-run", pattern}, packages...)...)},
	}, nil
}

// house are the packages that only read the tree. With the race detector they would be ten times
// slower and find nothing.
var house = []string{"./internal/arch", "./test/reference"}

// otherPackages returns all packages except some.
func otherPackages(but []string) ([]string, error) {
	out, err := exec.Command(goTool(), "list", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("listing the packages: %w", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(pkg string) bool {
		return slices.ContainsFunc(but,
			func(folder string) bool { return strings.HasSuffix(pkg, strings.TrimPrefix(folder, ".")) })
	}), nil
}

// goTool is the go command; the Makefile may name another one.
func goTool() string { return cmp.Or(os.Getenv("GO"), "go") }

// goTest returns a go test command that prints events and has a timeout for a busy machine.
func goTest(args ...string) []string {
	return append([]string{goTool(), "test", "-json", "-timeout", "40m"}, args...)
}

var (
	integrationTag = regexp.MustCompile(`(?m)^//go:build .*\bintegration\b`)
	testFunction   = regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`)
)

// serviceTests finds the tests that need real services, which have the build tag integration. It
// returns their packages, and a pattern for -run without the other tests, which ran without
// services.
func serviceTests(root string) (packages []string, pattern string, err error) {
	var names []string
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !integrationTag.Match(text) {
			return err
		}
		for _, m := range testFunction.FindAllSubmatch(text, -1) {
			if name := string(m[1]); name != "TestMain" {
				names = append(names, name)
				packages = append(packages, "./"+filepath.ToSlash(filepath.Dir(path)))
			}
		}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("looking for the tests that need services: %w", err)
	}
	slices.Sort(packages)
	slices.Sort(names)
	return slices.Compact(packages), "^(" + strings.Join(slices.Compact(names), "|") + ")$", nil
}
