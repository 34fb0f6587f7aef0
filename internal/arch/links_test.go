package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestLinks checks that the links between the pages of the repository lead to existing files and
// headings.
func TestLinks(t *testing.T) {
	pages := map[string]string{}
	for _, glob := range []string{"*.md", "*/*.md", "*/*/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, glob))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Rel(root, f)
			if err != nil {
				t.Fatal(err)
			}
			pages[filepath.ToSlash(name)] = string(text)
		}
	}
	for _, complaint := range checkLinks(pages, func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err == nil
	}) {
		t.Error(complaint)
	}
}

var (
	linkTo   = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading  = regexp.MustCompile(`(?m)^#+ (.+)$`)
	codeIn   = regexp.MustCompile("(?ms)^```.*?^```$|^ {4}.*?$")
	noAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// checkLinks finds broken links. pages are texts by name; there reports whether a file or folder
// exists.
func checkLinks(pages map[string]string, there func(string) bool) (wrong []string) {
	for name, text := range pages {
		for _, m := range linkTo.FindAllStringSubmatch(codeIn.ReplaceAllString(text, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			to := name
			if file != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(name), file))
			}
			page, known := pages[to]
			switch {
			case !known && !there(to):
				wrong = append(wrong, name+": the link to "+m[1]+" leads to no file")
			case known && anchor != "" && !slices.Contains(anchors(page), anchor):
				wrong = append(wrong,
					name+": the link to "+m[1]+" leads to no heading; want one of "+strings.Join(anchors(page), ", "))
			}
		}
	}
	slices.Sort(wrong)
	return wrong
}

// anchors are the anchors of a page's headings, as GitHub makes them.
func anchors(page string) (all []string) {
	for _, m := range heading.FindAllStringSubmatch(codeIn.ReplaceAllString(page, ""), -1) {
		text := strings.ToLower(noAnchor.ReplaceAllString(m[1], ""))
		all = append(all, strings.ReplaceAll(strings.TrimSpace(text), " ", "-"))
	}
	return all
}

func TestLinksFinds(t *testing.T) {
	pages := map[string]string{
		"README.md": "# Top\n\n[a](docs/a.md) [b](docs/a.md#the-users-key-v1) [c](https://example.com/x#y) " +
			"[d](#top) [e](LICENSE)\n",
		"docs/a.md":    "## The user's `key`, v1\n\n[up](../README.md#top)\n\n    [in code](nowhere.md)\n",
		"docs/bad.md":  "[x](a.md#no-such) [y](missing.md) [z](#none)\n",
		"docs/code.md": "```\n[in code](nowhere.md)\n```\n",
	}
	got := checkLinks(pages, func(name string) bool { return name == "LICENSE" })
	if len(got) != 3 {
		t.Errorf("got %d complaints, want 3, all of docs/bad.md: %q", len(got), got)
	}
	for _, c := range got {
		if !strings.HasPrefix(c, "docs/bad.md: ") {
			t.Errorf("complains of a good link: %s", c)
		}
	}
}
