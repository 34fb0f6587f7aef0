package arch

import (
	"go/ast"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A parsing is a file that parses texts of others: of clients, of servers that engines connect to,
// of operators.
type parsing struct {
	file  string
	limit string // the constant that bounds the text, in this folder or as pkg.Name below internal/
	fuzz  string // the fuzz target beside it that holds it to a number of steps for each byte, by costtest.Fuzz
}

// foreignParsers are functions of libraries that parse texts, whose cost we do not control.
var foreignParsers = map[string][]string{
	"json": {"Unmarshal", "NewDecoder"}, "xml": {"Unmarshal", "NewDecoder"},
	"hcl": {"Parse", "Decode", "DecodeObject"}, "hclsyntax": {"ParseConfig", "ParseExpression", "LexConfig"},
	"parser": {"Parse", "ParseDontErrorOnDuplicateKeys"},
	"url":    {"Parse", "ParseQuery", "ParseRequestURI", "PathUnescape"}, "pem": {"Decode"},
	"x509": {"ParseCertificate", "ParseCertificates", "ParsePKCS8PrivateKey", "ParsePKCS1PrivateKey",
		"ParseECPrivateKey"}, "tls": {"X509KeyPair"},
	"template": {"New"}, "cron": {"NewParser"}, "mysql": {"ParseDSN"}, "pgconn": {"ParseConfig"},
	"pgxpool": {"ParseConfig"}, "mime": {"ParseMediaType"}, "bufio": {"NewScanner"}, "wire": {"EachField"},
	"regexp": {"Compile"},
}

// parserNames match our functions that parse texts.
var parserNames = regexp.MustCompile(`^(?i)(parse|split|lex|scan|cut|decode|compile|substitute|unmarshaljson)`)

// TestParsers: every parser is in one of two tables. It has a limit and a fuzz target for its
// cost, or it parses our own texts.
func TestParsers(t *testing.T) { report(t, checkParsers(tree(t), parsings, ownTexts)) }

func checkParsers(all []*source, table []parsing, own map[string]string) (found []finding) {
	here := map[string]*source{}
	for _, s := range all {
		if parses(s) {
			here[s.path] = s
		}
	}
	listed := map[string]bool{}
	for _, p := range table {
		s := here[p.file]
		if s == nil {
			found = append(found,
				finding{p.file, "it is in the table of parsers and parses nothing; take the row out"})
			continue
		}
		listed[p.file] = true
		if !hasConstant(all, s.dir, p.limit) {
			found = append(found,
				s.found(s.file.Package, "the limit %s of the table of parsers is no constant there", p.limit))
		}
		if !hasCostTarget(all, s.dir, p.fuzz) {
			found = append(found, s.found(s.file.Package,
				"there is no %s beside it that calls costtest.Fuzz: write the fuzz target that holds the parser "+
					"to a number of steps for each byte",
				p.fuzz))
		}
	}
	for file, why := range own {
		if here[file] == nil || why == "" || listed[file] {
			found = append(found, finding{
				file,
				"it is among those that parse our own texts, without a reason, or parses nothing, or is in both " +
					"tables",
			})
		}
		listed[file] = true
	}
	for _, s := range all {
		if here[s.path] != nil && !listed[s.path] {
			found = append(found, s.found(s.file.Package,
				"it takes a text apart: refuse what is too long, see that its cost grows with the size alone, "+
					"and list it in internal/arch/parsers_test.go with its limit and its fuzz target; or say "+
					"there whose text it is"))
		}
	}
	return found
}

// ownTextFolders are folders that only parse texts of the user who runs them.
var ownTextFolders = []string{"internal/arch", "internal/cli", "internal/demo", "internal/plugins"}

// parses reports whether a file parses texts.
func parses(s *source) bool {
	if s.test || !strings.HasPrefix(s.dir, "internal/") ||
		slices.ContainsFunc(ownTextFolders, func(dir string) bool { return within(s.dir, dir) }) {
		return false
	}
	yes := false
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.CallExpr:
			for pkg, names := range foreignParsers {
				yes = yes || selects(x.Fun, pkg, names...)
			}
		case *ast.FuncDecl:
			yes = yes || parserNames.MatchString(x.Name.Name) && takesText(x.Type)
		}
		return !yes
	})
	return yes
}

// takesText reports whether a function has a text as a parameter.
func takesText(f *ast.FuncType) bool {
	return slices.ContainsFunc(f.Params.List, func(p *ast.Field) bool {
		t := p.Type
		if list, ok := t.(*ast.ArrayType); ok {
			t = list.Elt
		}
		id, ok := t.(*ast.Ident)
		return ok && (id.Name == "string" || id.Name == "byte")
	})
}

// hasConstant reports whether a name is a constant of the folder, or as pkg.Name of one below
// internal/.
func hasConstant(all []*source, dir, name string) bool {
	if pkg, below, ok := strings.Cut(name, "."); ok {
		name = below
		i := slices.IndexFunc(all, func(s *source) bool {
			return !s.test && path.Base(s.dir) == pkg && strings.HasPrefix(s.dir, "internal/")
		})
		if i < 0 {
			return false
		}
		dir = all[i].dir
	}
	for _, s := range all {
		if s.dir != dir || s.test {
			continue
		}
		for _, d := range s.file.Decls {
			decl, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, spec := range decl.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if ok && slices.ContainsFunc(v.Names, func(n *ast.Ident) bool { return n.Name == name }) {
					return true
				}
			}
		}
	}
	return false
}

// hasCostTarget reports whether a folder has a fuzz target that calls costtest.Fuzz.
func hasCostTarget(all []*source, dir, name string) bool {
	for _, s := range all {
		if s.dir != dir || !s.suffix {
			continue
		}
		for _, f := range s.funcs() {
			if f.Name.Name != name {
				continue
			}
			calls := false
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				calls = calls || ok && selects(call.Fun, "costtest", "Fuzz")
				return !calls
			})
			return calls
		}
	}
	return false
}

func TestCheckParsersFinds(t *testing.T) {
	parser := sample(t, "internal/x/x.go", "package x\nconst max = 1\nfunc parseIt(text string) {}")
	target := sample(t, "internal/x/x_test.go",
		"package x\nfunc FuzzIt(f *testing.F) { costtest.Fuzz(f, p) }\nfunc FuzzOther(f *testing.F) {}")
	row := parsing{"internal/x/x.go", "max", "FuzzIt"}
	for name, tt := range map[string]struct {
		text  string
		table []parsing
		own   map[string]string
		want  int
	}{
		"listed":             {"", []parsing{row}, nil, 0},
		"not listed":         {"", nil, nil, 1},
		"our own":            {"", nil, map[string]string{"internal/x/x.go": "a row of our own"}, 0},
		"no reason":          {"", nil, map[string]string{"internal/x/x.go": ""}, 1},
		"no such limit":      {"", []parsing{{row.file, "other", row.fuzz}}, nil, 1},
		"no such target":     {"", []parsing{{row.file, row.limit, "FuzzNone"}}, nil, 1},
		"not for cost":       {"", []parsing{{row.file, row.limit, "FuzzOther"}}, nil, 1},
		"in both":            {"", []parsing{row}, map[string]string{"internal/x/x.go": "why"}, 1},
		"parses nothing":     {"package x\nfunc parse(n int) {}", []parsing{row}, nil, 1},
		"by another's":       {"package x\nfunc f() { json.Unmarshal(b, &v) }", nil, nil, 1},
		"a method of bytes":  {"package x\nfunc (t) UnmarshalJSON(b []byte) error { return nil }", nil, nil, 1},
		"a list of texts":    {"package x\nfunc splitAll(s []string) {}", nil, nil, 1},
		"an ordinary method": {"package x\nfunc (t) open(s string) {}", nil, nil, 0},
	} {
		p := parser
		if tt.text != "" {
			p = sample(t, "internal/x/x.go", tt.text)
		}
		if got := checkParsers([]*source{p, target}, tt.table, tt.own); len(got) != tt.want {
			t.Errorf("%s: %v, want %d findings", name, got, tt.want)
		}
	}
}

// parsings are the parsers of others' texts. Each row is a promise: a text above the limit is
// refused, and one below it costs at most a number of steps per byte, which the fuzz target
// counts.
var parsings = []parsing{
	{"internal/audit/chain.go", "lineStart", "FuzzLineCost"},
	{"internal/cron/blackout.go", "maxDates", "FuzzBlackoutCost"},
	{"internal/cron/cron.go", "maxText", "FuzzScheduleCost"},
	{"internal/engine/aws/rootconfig.go", "maxAddress", "FuzzAddressCost"},
	{"internal/engine/aws/creds.go", "maxDocument", "FuzzDocumentCost"},
	{"internal/engine/aws/role.go", "maxDocument", "FuzzTagsCost"},
	{"internal/engine/database/certificate.go", "maxKey", "FuzzCertificateCost"},
	{"internal/engine/database/mysql/destination.go", "database.MaxURL", "FuzzURLCost"},
	{"internal/engine/database/mysql/dsn.go", "database.MaxURL", "FuzzURLCost"},
	{"internal/engine/database/mysql/statement.go", "database.MaxStatements", "FuzzStatementCost"},
	{"internal/engine/database/postgres/dsn.go", "database.MaxURL", "FuzzURLCost"},
	{"internal/engine/database/postgres/prepared.go", "database.MaxURL", "FuzzURLCost"},
	{"internal/engine/database/postgres/statement.go", "database.MaxStatements", "FuzzStatementCost"},
	{"internal/engine/database/redis/provider.go", "database.MaxStatements", "FuzzRuleCost"},
	{"internal/engine/database/redis/limit.go", "longestBulk", "FuzzReplyCost"},
	{"internal/engine/database/redis/members.go", "longestBulk", "FuzzReplyCost"},
	{"internal/engine/database/redis/user.go", "longestBulk", "FuzzReplyCost"},
	{"internal/engine/database/settings.go", "wire.MaxFieldBytes", "FuzzSettingCost"},
	{"internal/engine/database/statements.go", "MaxStatements", "FuzzStatementsCost"},
	{"internal/engine/kv/texts.go", "wire.MaxDepth", "FuzzPatchCost"},
	{"internal/rotate/exchange.go", "maxShown", "FuzzShowReplyCost"},
	{"internal/rotate/marker.go", "MarkerMax", "FuzzMarkerCost"},
	{"internal/engine/rotation/recipe/check.go", "maxSource", "FuzzParseCost"},
	{"internal/engine/rotation/recipe/digest.go", "maxChallenge", "FuzzChallengeCost"},
	{"internal/engine/rotation/recipe/reading.go", "maxSource", "FuzzParseCost"},
	{"internal/engine/rotation/recipe/request.go", "maxURL", "FuzzEvaluateCost"},
	{"internal/engine/rotation/recipe/value.go", "maxReply", "FuzzReplyCost"},
	{"internal/hcltext/hcltext.go", "maxDepth", "FuzzTextCost"},
	{"internal/hcltext/json.go", "maxDepth", "FuzzTextCost"},
	{"internal/outbound/client.go", "maxOrigin", "FuzzOriginCost"},
	{"internal/policy/parse.go", "maxText", "FuzzPolicyCost"},
	{"internal/policy/password/parse.go", "maxText", "FuzzPasswordPolicyCost"},
	{"internal/policy/rule.go", "maxCompared", "FuzzDecideCost"},
	{"internal/policy/value.go", "maxCompared", "FuzzDecideCost"},
	{"internal/route/path.go", "MaxPath", "FuzzPathCost"},
	{"internal/server/config/values.go", "maxFile", "FuzzConfigCost"},
	{"internal/server/httpapi/forwarded.go", "maxForwarded", "FuzzForwardedCost"},
	{"internal/server/httpapi/request.go", "maxHeader", "FuzzHeadCost"},
	{"internal/username/username.go", "longestText", "FuzzTemplateCost"},
	{"internal/wire/decode.go", "MaxFieldBytes", "FuzzBodyCost"},
	{"internal/wire/duration.go", "MaxDuration", "FuzzDurationCost"},
	{"internal/wire/list.go", "MaxFieldBytes", "FuzzBodyCost"},
	{"internal/wire/unescape.go", "MaxFieldBytes", "FuzzBodyCost"},
}

// ownTexts are files that parse texts of this server or its operator, with the reason.
var ownTexts = map[string]string{
	"internal/audit/devices.go":                 "rows of our own store",
	"internal/audit/file/end.go":                "the end of a file that this server writes, a bounded part of it",
	"internal/audit/file/file.go":               "a mode, of which strconv reads the digits",
	"internal/audit/pending.go":                 "rows of our own store",
	"internal/audit/payload.go":                 "a body that wire.Check has accepted, once",
	"internal/barrier/value.go":                 "what the barrier has encrypted",
	"internal/barrier/ring.go":                  "the key ring, which the barrier has encrypted",
	"internal/barrier/rows.go":                  "rows of our own store",
	"internal/barrier/view.go":                  "keys of our own store: it parses nothing",
	"internal/core/requestaudit.go":             "a body that wire.Check has accepted, once",
	"internal/core/envelope.go":                 "an answer of our own",
	"internal/core/compliancecursor.go":         "a cursor that the barrier has encrypted, at most maxCursor",
	"internal/core/policies/policies.go":        "rows of our own store; a policy's text goes to package policy",
	"internal/due/due.go":                       "keys of our own store",
	"internal/engine/aws/client/ambient.go":     "an address that checkURL has accepted",
	"internal/engine/aws/client/users.go":       "a policy of a group, at most 10,240 bytes at AWS",
	"internal/engine/aws/rootlegacy.go":         "rows of our own store",
	"internal/engine/aws/rootdata.go":           "rows of our own store",
	"internal/engine/aws/static.go":             "rows of our own store",
	"internal/engine/aws/staticlegacy.go":       "rows of our own store",
	"internal/engine/aws/undo.go":               "rows of our own store",
	"internal/engine/database/undo.go":          "rows of our own store",
	"internal/engine/database/engine.go":        "rows of our own store",
	"internal/engine/database/roottarget.go":    "rows of our own store",
	"internal/engine/database/staticrecord.go":  "rows of our own store",
	"internal/engine/database/staticlegacy.go":  "rows of our own store",
	"internal/engine/database/staticusers.go":   "a certificate that this server has made",
	"internal/engine/kv/record.go":              "rows of our own store",
	"internal/engine/kv/v1.go":                  "a document that wire.Check has accepted, once",
	"internal/engine/kv/table.go":               "rows of our own store",
	"internal/engine/rotation/keydata.go":       "rows of our own store",
	"internal/engine/rotation/recipe/script.go": "a script of who develops a recipe",
	"internal/rotate/credential.go":             "one word, compared with those of a table",
	"internal/rotate/edit.go":                   "rows of our own store",
	"internal/rotate/reading.go":                "rows of our own store",
	"internal/rotate/secrets.go":                "rows of our own store",
	"internal/lease/record.go":                  "rows of our own store",
	"internal/mount/mount.go":                   "rows of our own store",
	"internal/seal/record.go":                   "rows of our own store",
	"internal/seal/shamir/shamir.go":            "a share, which seal.ParseShare bounds",
	"internal/seal/static/key.go":               "a file of the operator's, 32 bytes",
	"internal/secret/unquote.go":                "it quotes, and parses nothing",
	"internal/secret/secret.go":                 "a text in JSON, whose field bounds it",
	"internal/server/config/tls.go":             "certificates and keys of who runs the server, at most maxPEM each",
	"internal/auth/token/cidrs.go":              "addresses, each read once by netip, in a list that wire bounds",
	"internal/wire/network.go": "an address or network, read once by netip, in a list that wire or " +
		"the configuration bounds",
	"internal/server/command.go":         "the command line of the operator",
	"internal/server/httpapi/answer.go":  "a body that wire.Check has accepted, once",
	"internal/server/metrics/summary.go": "names of metrics of our own",
	"internal/storage/memory/memory.go":  "keys of our own store: it parses nothing",
	"internal/storage/pebble/format.go":  "rows of our own store",
	"internal/storage/pebble/logend.go":  "a file that this server writes",
	"internal/storage/pebble/open.go":    "a file that this server writes, and parameters of the operator's",
	"internal/storage/pebble/pebble.go":  "rows of our own store",
	"internal/storage/pebble/read.go":    "rows of our own store",
	"internal/token/token.go":            "rows of our own store",
}
