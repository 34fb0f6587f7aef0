package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const troubleshooting = "docs/troubleshooting.md"

// TestAlertsAreExplained: docs/troubleshooting.md has a section for each alert rule.
func TestAlertsAreExplained(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(root, "deploy/prometheus/keyturn.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, troubleshooting))
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?m)^\s+- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) == 0 {
		t.Fatal("no alert was found: the form of the rules has changed")
	}
	for _, m := range alerts {
		if !strings.Contains(string(page), "\n### "+m[1]+"\n") {
			t.Errorf("%s does not explain the alert %s: add a section \"### %s\" with its cause and remedy",
				troubleshooting, m[1], m[1])
		}
	}
}

// TestQuotedMessages: the messages that the page quotes are those of the code, because users
// search the page for them.
func TestQuotedMessages(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root, troubleshooting))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, s := range tree(t) {
		if !s.test {
			code.WriteString(strings.ReplaceAll(joint.ReplaceAllString(s.text, ""), `\"`, `"`))
		}
	}
	if len(quotedMessages(string(page))) == 0 {
		t.Fatal("no message was found: the form of the page has changed")
	}
	for _, message := range quotedMessages(string(page)) {
		if !strings.Contains(code.String(), message) {
			t.Errorf("%s: no message of the code contains %q; quote the new wording", troubleshooting, message)
		}
	}
}

// joint is where a text continues on the next line.
var joint = regexp.MustCompile(`"\s*\+\s*\n\s*"`)

var quotation = regexp.MustCompile(`"([^"]+)"`)

// quotedMessages returns the quoted texts in headings and in the first column of tables, without
// placeholders.
func quotedMessages(page string) (all []string) {
	for line := range strings.Lines(page) {
		where := ""
		if cells := strings.Split(line, "|"); len(cells) > 3 {
			where = cells[1]
		} else if strings.HasPrefix(line, "### ") {
			where = line
		}
		for _, m := range quotation.FindAllStringSubmatch(where, -1) {
			for part := range strings.SplitSeq(m[1], "…") {
				if part = strings.TrimSpace(part); len(part) >= 8 {
					all = append(all, part)
				}
			}
		}
	}
	return all
}

func TestQuotedMessagesFinds(t *testing.T) {
	got := quotedMessages(
		"### \"the first … message\"\n\ntext \"not this\"\n\n| `503`, \"is paused now\" | \"not this\" | x |\n")
	if want := []string{"the first", "is paused now"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
