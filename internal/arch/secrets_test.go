package arch

import (
	"go/ast"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// secretName matches names of JSON fields that contain a secret.
var secretName = regexp.MustCompile(
	`(^|_)(password|passwd|passphrase|secret|token|private_key|secret_key|api_key|unseal_key|root_key|secret_id|credential|credentials)$`)

// notSecret are names that look like those of secrets, but are not.
var notSecret = regexp.MustCompile(`(^|_)(from_token|is_secret|has_token)$`)

// TestSecretFields: the server keeps no secret in a plain string. The command line, the agent and
// the demo are exempt, because the API client that they use has strings.
func TestSecretFields(t *testing.T) {
	h := readHouse(t)
	for _, s := range tree(t) {
		pkg, ok := strings.CutPrefix(s.dir, "internal/")
		if ok && (h.storey[family(pkg)] <= h.storey["core"] || family(pkg) == "server") {
			report(t, checkSecretFields(s))
		}
	}
}

func checkSecretFields(s *source) []finding {
	if s.test || s.generated {
		return nil
	}
	var found []finding
	ast.Inspect(s.file, func(n ast.Node) bool {
		st, ok := n.(*ast.StructType)
		if !ok {
			return true
		}
		for _, f := range st.Fields.List {
			if !plain(f.Type) {
				continue
			}
			for _, name := range wireNames(f) {
				if secretName.MatchString(name) && !notSecret.MatchString(name) {
					found = append(found,
						s.found(f.Pos(), "plain field %s is named like a secret: make it a secret.Value", name))
				}
			}
		}
		return true
	})
	return found
}

// plain reports whether a type would print its contents: a string, or a pointer, list or map of
// strings.
func plain(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name == "string"
	case *ast.StarExpr:
		return plain(x.X)
	case *ast.ArrayType:
		return plain(x.Elt)
	}
	return false
}

// wireNames returns what a field is called: by its tag, else by its names.
func wireNames(f *ast.Field) []string {
	if f.Tag != nil {
		tag, err := strconv.Unquote(f.Tag.Value)
		if err == nil {
			for _, key := range []string{"json", "path", "hcl"} {
				name, _, _ := strings.Cut(reflect.StructTag(tag).Get(key), ",")
				if name != "" && name != "-" {
					return []string{name}
				}
			}
		}
	}
	var names []string
	for _, n := range f.Names {
		names = append(names, snake(n.Name))
	}
	return names
}

// snake turns SecretID and secretKey into secret_id and secret_key.
func snake(name string) string {
	var b strings.Builder
	runes := []rune(name)
	for i, r := range runes {
		if i > 0 && unicode.IsUpper(r) &&
			(unicode.IsLower(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func TestCheckSecretFieldsFinds(t *testing.T) {
	for field, want := range map[string]int{
		"Password string":                              1,
		"Password *string":                             1,
		"Passwords, Secret string":                     1,
		"Tokens []string `json:\"client_token\"`":      1,
		"X string `json:\"secret_id,omitempty\"`":      1,
		"SecretID string":                              1,
		"privateKey string":                            1,
		"Token string `path:\"token\"`":                1,
		"Password secret.Value":                        0,
		"PasswordPolicy string":                        0,
		"TokenType string `json:\"token_type\"`":       0,
		"TokenTTL time.Duration `json:\"token_ttl\"`":  0,
		"Accessor string":                              0,
		"Sent string `json:\"secret_id_accessor\"`":    0,
		"password func() string":                       0,
		"Plain string `json:\"-\"`":                    0,
		"Password string `json:\"-\"`":                 1,
		"SecretKey string `hcl:\"secret_key\"`":        1,
		"ByToken map[string]int":                       0,
		"Inner struct { APIKey string }":               1,
		"Token bool":                                   0,
		"S3SecretKey string // not by tag but by name": 1,
	} {
		s := sample(t, "internal/x/x.go", "package x\ntype t struct {\n"+field+"\n}")
		if got := checkSecretFields(s); len(got) != want {
			t.Errorf("%s: got %v, want %d findings", field, got, want)
		}
	}
}
