package aws_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocumentedPolicy: the policy in docs/aws.md allows each call that is made, and no other.
func TestDocumentedPolicy(t *testing.T) {
	text, err := os.ReadFile("../../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```json\n")
	policy, _, _ := strings.Cut(rest, "```")
	allowed := map[string]bool{}
	for _, m := range regexp.MustCompile(`"((?:iam|sts):\w+)"[,\]\s]`).FindAllStringSubmatch(policy, -1) {
		allowed[m[1]] = true
	}
	// What comes with another call: tags of users and sessions. What needs no permission.
	made := map[string]bool{"iam:TagUser": true, "sts:TagSession": true}
	free := map[string]bool{"sts:GetCallerIdentity": true, "sts:GetSessionToken": true}
	files, err := filepath.Glob("client/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`&(iam|sts)\.(\w+)Input\{`).FindAllStringSubmatch(string(code), -1) {
			if call := m[1] + ":" + m[2]; !free[call] {
				made[call] = true
			}
		}
	}
	for call := range made {
		if !allowed[call] {
			t.Errorf("the policy lacks %s", call)
		}
	}
	for call := range allowed {
		if !made[call] {
			t.Errorf("the policy allows %s, which is not called", call)
		}
	}
}
