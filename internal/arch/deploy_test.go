package arch

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// deployed has the parser of each kind of file in deploy/, by the end of the name.
var deployed = map[string]func(text []byte) error{
	".tf":      parseHCL,
	".service": parseUnit,
	".hcl":     parseHCL, // a policy, which test/system writes to a server
	".md":      func([]byte) error { return nil },
	".yml":     func([]byte) error { return nil }, // alert rules and their tests, which test/system gives to promtool
}

// TestDeploy parses every file of deploy/. A file of a new kind needs a parser in the table above.
func TestDeploy(t *testing.T) {
	files := 0
	err := filepath.WalkDir(filepath.Join(root, "deploy"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files++
		parse := deployed[filepath.Ext(path)]
		if parse == nil {
			return fmt.Errorf("%s: no parser for files of this kind", path)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if err := parse(text); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Fatalf("%d files, %v", files, err)
	}
}

func parseHCL(text []byte) error {
	if _, problems := hclsyntax.ParseConfig(text, "", hcl.InitialPos); problems.HasErrors() {
		return problems
	}
	return nil
}

// parseUnit parses a systemd unit, see systemd.syntax(7).
func parseUnit(text []byte) error {
	section, n := "", 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		switch key, _, setting := strings.Cut(line, "="); {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && strings.HasSuffix(line, "]"):
			section = line
		case !setting || strings.ContainsAny(key, " \t") || section == "":
			return fmt.Errorf("line %d: %q is no setting of a section", n, line)
		case strings.HasSuffix(line, `\`):
			return fmt.Errorf("line %d: write the setting on one line", n)
		}
	}
	return nil
}

func TestParseUnit(t *testing.T) {
	for text, good := range map[string]bool{
		"# x\n[Unit]\nAfter=a b\n": true, "After=a\n": false, "[Unit]\nAfter a\n": false, "[Unit]\nAf ter=a\n": false,
	} {
		if err := parseUnit([]byte(text)); (err == nil) != good {
			t.Errorf("%q: %v", text, err)
		}
	}
}
