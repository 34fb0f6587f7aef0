package arch

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
)

// architecture has the tables of ARCHITECTURE.md.
type architecture struct {
	storey     map[string]int
	parts      map[string]bool     // "policy/password"
	exceptions map[string][]string // a family or folder: what else it may import
	contracts  map[string]string   // folder: "Driver" of its implementations
	homes      map[string][]string // module: folders
}

func readHouse(t *testing.T) *architecture {
	t.Helper()
	text, err := os.ReadFile(root + "/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	h, err := parseHouse(string(text))
	if err != nil {
		t.Fatalf("ARCHITECTURE.md: %v", err)
	}
	return h
}

func parseHouse(text string) (*architecture, error) {
	h := &architecture{
		map[string]int{}, map[string]bool{}, map[string][]string{}, map[string]string{}, map[string][]string{},
	}
	for _, row := range table(text, "storey") {
		n, err := strconv.Atoi(row[0])
		family := strings.Join(quoted(row[1]), "")
		if err != nil || family == "" || len(row) != 4 {
			return nil, fmt.Errorf("row %q: want a storey, a family, what it is, parts", row)
		}
		if _, twice := h.storey[family]; twice {
			return nil, fmt.Errorf("family %s stands twice", family)
		}
		h.storey[family] = n
		for _, p := range quoted(row[3]) {
			if !strings.HasPrefix(p, family+"/") {
				return nil, fmt.Errorf("part %s is not inside %s", p, family)
			}
			h.parts[p] = true
		}
	}
	for _, row := range table(text, "folder") {
		if len(row) != 3 || row[2] == "" {
			return nil, fmt.Errorf("exception %q: want a folder, what it may import, because", row)
		}
		h.exceptions[strings.Join(quoted(row[0]), "")] = quoted(row[1])
	}
	for _, row := range table(text, "contract") {
		h.contracts[strings.Join(quoted(row[0]), "")] = quoted(row[2])[0]
	}
	for _, row := range table(text, "module") {
		h.homes[strings.Join(quoted(row[0]), "")] = quoted(row[1])
	}
	if len(h.storey) == 0 || len(h.contracts) == 0 || len(h.homes) == 0 {
		return nil, errors.New("a table is missing: storeys, contracts or homes")
	}
	return h, nil
}

// table returns the cells of the rows of the Markdown table whose first
// heading is given.
func table(text, heading string) [][]string {
	var rows [][]string
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == heading:
			inside = true
		case inside && !strings.HasPrefix(cells[0], "---"):
			rows = append(rows, cells)
		}
	}
	return rows
}

// quoted returns the texts between back-quotes.
func quoted(cell string) []string {
	var words []string
	for i, w := range strings.Split(cell, "`") {
		if i%2 == 1 {
			words = append(words, w)
		}
	}
	return words
}

func family(pkg string) string { f, _, _ := strings.Cut(pkg, "/"); return f }

func within(pkg, folder string) bool { return pkg == folder || strings.HasPrefix(pkg, folder+"/") }

// part returns the part that pkg belongs to, or "".
func (h *architecture) part(pkg string) string {
	for p := range h.parts {
		if within(pkg, p) {
			return p
		}
	}
	return ""
}

// implementation reports whether pkg is a folder below a contract that is neither a part nor for
// tests.
func (h *architecture) implementation(pkg string) bool {
	_, below := h.contracts[path.Dir(pkg)]
	return below && h.part(pkg) == "" && !forTests(pkg)
}

// refuse returns why package from must not import package to, both below internal/, or "". inTest:
// the importing file is only for tests.
func (h *architecture) refuse(from, to string, inTest bool) string {
	a, b := family(from), family(to)
	low, knownTo := h.storey[b]
	high, knownFrom := h.storey[a]
	switch part := h.part(to); {
	case !knownFrom || !knownTo:
		return "every family has a row in ARCHITECTURE.md's table of storeys"
	case from == to || strings.HasPrefix(from, to+"/") || h.excepted(from, to):
		return ""
	case part != "" && within(from, path.Dir(part)):
		return ""
	case part != "":
		return "a part of " + path.Dir(part) + " is imported only inside it"
	case a != b && low >= high:
		return fmt.Sprintf("storey %d may not look up or across to storey %d; take a function that core passes", high,
			low)
	case forTests(to) && !inTest:
		return "only tests may import what is for tests"
	case forTests(to) && (a != b || within(from, path.Dir(to))), inTest && to == "storage/memory":
		return ""
	case a == b:
		return "siblings do not know each other, and a contract does not know its implementations"
	case to != b && a != "plugins":
		return "only plugins imports an implementation; import the contract " + b
	}
	return ""
}

func (h *architecture) excepted(from, to string) bool {
	for folder, may := range h.exceptions {
		for _, m := range may {
			if within(from, folder) && m == to {
				return true
			}
		}
	}
	return false
}

// refuseModule returns why folder dir must not import a third-party package, or "". The longest
// matching module path decides.
func (h *architecture) refuseModule(dir, pkg string) string {
	best := ""
	for m := range h.homes {
		if within(pkg, m) && len(m) > len(best) {
			best = m
		}
	}
	if best == "" {
		return ""
	}
	for _, home := range h.homes[best] {
		if within(dir, home) {
			return ""
		}
	}
	return fmt.Sprintf("%s is at home in %v alone; go through that package", best, h.homes[best])
}

// roof is the lowest storey that commands may import.
const roof = 6

// refuseOutside returns why a folder outside of internal/ must not import package to, or "".
func (h *architecture) refuseOutside(dir, to string) string {
	switch family(dir) {
	case "test", "bench":
		return ""
	case "cmd":
		if storey, known := h.storey[to]; known && storey >= roof {
			return ""
		}
		return fmt.Sprintf("a command joins families of storey %d and above", roof)
	}
	return "only cmd, test and bench import internal packages"
}

const tables = `
| storey | family | what | parts |
|---|---|---|---|
| 0 | ¬fault¬ | | |
| 0 | ¬secret¬ | | |
| 0 | ¬wire¬ | | |
| 1 | ¬storage¬ | | |
| 2 | ¬barrier¬ | | |
| 3 | ¬lease¬ | | |
| 3 | ¬token¬ | | |
| 3 | ¬policy¬ | | ¬policy/password¬ |
| 4 | ¬engine¬ | | ¬engine/rotation/journal¬, ¬engine/aws/client¬ |
| 5 | ¬core¬ | | ¬core/sys¬ |
| 6 | ¬plugins¬ | | |
| 6 | ¬server¬ | | ¬server/httpapi¬, ¬server/metrics¬ |
| 7 | ¬cli¬ | | |

| folder | may import | because |
|---|---|---|
| ¬wire¬ | ¬secret¬ | encodes |
| ¬engine/rotation/awsiam¬ | ¬engine/aws/client¬ | the same calls |

| contract | its implementations are | value |
|---|---|---|
| ¬storage¬ | | ¬Driver¬ |
| ¬engine¬ | | ¬Type¬ |
| ¬engine/database¬ | | ¬Provider¬ |
| ¬engine/rotation¬ | | ¬Provider¬ |

| module | imported by |
|---|---|
| ¬example.org/hcl¬ | ¬internal/policy¬ |
| ¬example.org/hcl/v2¬ | ¬internal/engine/rotation/recipe¬ |
`

func sampleHouse(t *testing.T) *architecture {
	t.Helper()
	h, err := parseHouse(strings.ReplaceAll(tables, "¬", "`"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestRefuse(t *testing.T) {
	h := sampleHouse(t)
	for _, tt := range []struct {
		from, to string
		inTest   bool
		ok       bool
	}{
		{"core", "engine", false, true},
		{"core", "engine/database", false, false},
		{"core", "fault", false, true},
		{"storage", "core", false, false},
		{"lease", "token", false, false},
		{"lease", "token", true, false},
		{"wire", "secret", false, true},
		{"wire", "fault", false, false},
		{"secret", "wire", false, false},
		{"engine", "engine/kv", false, false},
		{"engine", "engine/kv", true, false},
		{"engine/kv", "engine", false, true},
		{"engine/database/postgres", "engine/database", false, true},
		{"engine/database/postgres", "engine", false, true},
		{"engine/database/postgres", "engine/database/mysql", false, false},
		{"engine/database", "engine/database/postgres", false, false},
		{"engine/database", "engine/database/postgres", true, false},
		{"engine/aws", "engine/kv", false, false},
		{"engine/database/postgres", "engine/database/databasetest", true, true},
		{"engine/database/postgres", "engine/database/databasetest", false, false},
		{"engine/kv", "engine/database/databasetest", true, false},
		{"engine/kv", "engine/enginetest", true, true},
		{"core", "engine/enginetest", true, true},
		{"lease", "engine/enginetest", true, false},
		{"storage/storagetest", "storage/faulty", true, true},
		{"barrier", "storage/faulty", true, true},
		{"barrier", "storage/faulty", false, false},
		{"barrier", "storage/memory", true, true},
		{"barrier", "storage/memory", false, false},
		{"barrier", "storage/pebble", true, false},
		{"storage/pebble", "storage/memory", true, true},
		{"storage/pebble", "storage/memory", false, false},
		{"policy", "policy/password", false, true},
		{"policy/password", "policy", false, true},
		{"core", "policy/password", false, false},
		{"core", "core/sys", false, true},
		{"server/httpapi", "server/metrics", false, true},
		{"server/httpapi", "core/sys", false, false},
		{"engine/rotation", "engine/rotation/journal", false, true},
		{"engine/rotation/recipe", "engine/rotation/journal", false, true},
		{"engine/kv", "engine/rotation/journal", false, false},
		{"engine/rotation/awsiam", "engine/aws/client", false, true},
		{"engine/rotation/recipe", "engine/aws/client", false, false},
		{"plugins", "engine/database/postgres", false, true},
		{"plugins", "engine/rotation/journal", false, false},
		{"server", "plugins", false, false},
		{"server", "engine/database/postgres", false, false},
		{"cli", "plugins", false, true},
		{"cli", "server", false, true},
		{"cli", "server/httpapi", false, false},
		{"server", "cli", false, false},
		{"cli", "unheard", false, false},
		{"unheard", "fault", false, false},
	} {
		if got := h.refuse(tt.from, tt.to, tt.inTest); (got == "") != tt.ok {
			t.Errorf("refuse(%q, %q, inTest=%v) = %q, want ok=%v", tt.from, tt.to, tt.inTest, got, tt.ok)
		}
	}
}

func TestRefuseOutside(t *testing.T) {
	h := sampleHouse(t)
	for _, tt := range []struct {
		dir, to string
		ok      bool
	}{
		{"cmd/keyturn", "cli", true},
		{"cmd/keyturn", "server", true},
		{"cmd/keyturn", "server/httpapi", false},
		{"cmd/keyturn", "core", false},
		{"test", "storage/pebble", true},
		{"bench", "core", true},
		{"recipes", "fault", false},
	} {
		if got := h.refuseOutside(tt.dir, tt.to); (got == "") != tt.ok {
			t.Errorf("refuseOutside(%q, %q) = %q, want ok=%v", tt.dir, tt.to, got, tt.ok)
		}
	}
}

func TestEvicted(t *testing.T) {
	h := sampleHouse(t)
	for _, tt := range []struct {
		dir, pkg string
		ok       bool
	}{
		{"internal/policy", "example.org/hcl", true},
		{"internal/policy", "example.org/hcl/hcl/ast", true},
		{"internal/policy", "example.org/hcl/v2/hclsyntax", false},
		{"internal/policyx", "example.org/hcl", false},
		{"internal/engine/rotation/recipe", "example.org/hcl/v2", true},
		{"internal/engine/rotation/recipe", "example.org/hcl", false},
		{"internal/core", "example.org/hclx", true},
	} {
		if got := h.refuseModule(tt.dir, tt.pkg); (got == "") != tt.ok {
			t.Errorf("evicted(%q, %q) = %q, want ok=%v", tt.dir, tt.pkg, got, tt.ok)
		}
	}
}

func TestParseHouseRefuses(t *testing.T) {
	good := strings.ReplaceAll(tables, "¬", "`")
	for name, bad := range map[string]string{
		"no tables":      "# nothing",
		"family twice":   strings.Replace(good, "`secret` | |", "`fault` | |", 1),
		"foreign part":   strings.Replace(good, "`core/sys`", "`server/sys`", 1),
		"no reason":      strings.Replace(good, "| encodes |", "| |", 1),
		"storey no word": strings.Replace(good, "| 5 | `core`", "| five | `core`", 1),
	} {
		if _, err := parseHouse(bad); err == nil {
			t.Errorf("%s: parsed", name)
		}
	}
}
