package arch

import (
	"go/ast"
	"slices"
	"testing"
)

// readsWhole lists files that read a whole stream without their own limit, with the reason why it
// is limited.
var readsWhole = map[string]string{
	"internal/engine/rotation/recipe/call.go":   "the outbound client limits answers",
	"internal/engine/rotation/recipe/script.go": "the body is one that the recipe made",
}

// TestReadingIsBounded: a file or stream that a user names may be an endless device.
func TestReadingIsBounded(t *testing.T) {
	all := tree(t)
	for _, s := range all {
		report(t, checkReading(s))
	}
	for file, why := range readsWhole {
		if why == "" || !slices.ContainsFunc(all, func(s *source) bool { return s.path == file }) {
			t.Errorf("%s: in the list of files that read without a limit, and without a reason, or not there", file)
		}
	}
}

// checkReading finds reads of whole files and streams. A path that is a constant is allowed.
func checkReading(s *source) []finding {
	if s.test || forTests(s.dir) || !within(s.dir, "internal") && !within(s.dir, "cmd") || readsWhole[s.path] != "" {
		return nil
	}
	var found []finding
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		switch _, literal := call.Args[0].(*ast.BasicLit); {
		case selects(call.Fun, "os", "ReadFile") && !literal:
			found = append(found,
				s.found(call.Pos(), "os.ReadFile of /dev/zero never ends: use hostfile.ReadNamed with a limit"))
		case selects(call.Fun, "tls", "LoadX509KeyPair"):
			found = append(found, s.found(call.Pos(),
				"tls.LoadX509KeyPair reads whole files: use hostfile.ReadNamed and tls.X509KeyPair"))
		case selects(call.Fun, "io", "ReadAll") && !bounded(call.Args[0]):
			found = append(found, s.found(call.Pos(),
				"io.ReadAll of a stream without end never ends: use hostfile.ReadStream, or give it an "+
					"io.LimitReader"))
		}
		return true
	})
	return found
}

// bounded reports whether e is a reader with a limit.
func bounded(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && (selects(call.Fun, "io", "LimitReader") || selects(call.Fun, "http", "MaxBytesReader"))
}

func TestReadingFinds(t *testing.T) {
	for text, want := range map[string]int{
		`os.ReadFile(path)`: 1, `os.ReadFile("/proc/stat")`: 0, `io.ReadAll(r)`: 1,
		`io.ReadAll(io.LimitReader(r, 9))`: 0, `io.ReadAll(http.MaxBytesReader(w, r, 9))`: 0,
		`tls.LoadX509KeyPair(a, b)`: 1, `hostfile.ReadNamed(path, 9)`: 0,
	} {
		if got := checkReading(sample(t, "internal/x/x.go", "package x\nfunc f() { "+text+" }")); len(got) != want {
			t.Errorf("%s: got %v, want %d findings", text, got, want)
		}
		if got := checkReading(sample(t, "internal/x/x_test.go", "package x\nfunc f() { "+text+" }")); len(got) != 0 {
			t.Errorf("%s in a test: got %v", text, got)
		}
	}
}
