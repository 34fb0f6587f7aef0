package policy_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/keyturn/keyturn/internal/policy"
	"github.com/keyturn/keyturn/internal/wire"
)

// form is a request body with all that a form tells of one.
type form struct {
	Policies []policy.Ref  `json:"policies"`
	Roles    *[]string     `json:"roles"`
	TTL      time.Duration `json:"ttl" alias:"lease,old_ttl"`
	Note     string        `json:"note"`
	ARN      string        `json:"arn" also:"policy_arns,role_arns"`
	ARNs     []string      `json:"policy_arns"`
	Any      wire.Raw      `json:"any"`
	Tags     wire.Raw      `json:"tags" shape:"list"`
	Uses     *int          `json:"uses"`
	Flag     bool          `json:"flag"`
	Bound    *wire.TTL     `json:"bound"`
	Life     wire.Lifetime `json:"life"`
	Numbers  []int         `json:"ns"`
	Type     string        `json:"type" means:"generic=kv"`
}

// judged decides like core: first the names, then the rules.
func judged(t *testing.T, attributes string, want map[string]bool) {
	t.Helper()
	s, f := set(t, with(attributes)), wire.FormOf(reflect.TypeFor[form]())
	for body, ok := range want {
		b, err := f.Rename([]byte(body))
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if got := s.Decide(policy.Query{Path: "a", Op: policy.Update, Body: b, Form: f}); got.Allowed != ok {
			t.Errorf("%s\n%s: allowed %v (%s), want %v", attributes, body, got.Allowed, got.Why, ok)
		}
	}
}

// TestSecondNames: a parameter is judged under all its names, whichever name the rule or the
// request uses.
func TestSecondNames(t *testing.T) {
	for _, name := range []string{"ttl", "lease", "old_ttl"} {
		judged(t, `denied_parameters = { "`+name+`" = [] }`,
			map[string]bool{`{"ttl":1}`: false, `{"lease":1}`: false, `{"old_ttl":1}`: false, `{"note":"x"}`: true})
		judged(t, `denied_parameters = { "`+name+`" = ["9h"] }`, map[string]bool{
			`{"ttl":"9h"}`: false, `{"lease":"9h"}`: false, `{"lease":"1h"}`: true, `{"ttl":"","lease":"9h"}`: false,
		})
		judged(t, `allowed_parameters = { "`+name+`" = ["1h"] }`, map[string]bool{
			`{"ttl":"1h"}`: true, `{"lease":"1h"}`: true, `{"lease":"2h"}`: false, `{"ttl":"2h"}`: false,
			`{"note":"x"}`: false,
		})
		judged(t, `required_parameters = ["`+name+`"]`, map[string]bool{
			`{"ttl":"1h"}`: true, `{"lease":"1h"}`: true, `{"note":"x"}`: false, `{"lease":null}`: false,
		})
	}
	judged(t, `allowed_parameters = { "lease" = ["1h"], "*" = [] }`,
		map[string]bool{`{"ttl":"2h"}`: false, `{"ttl":"1h","note":"x"}`: true})
	// What does the work of others is denied with each of them, and allowed by its own name alone.
	judged(t, `denied_parameters = { "policy_arns" = ["*Admin*"] }`, map[string]bool{
		`{"arn":"x:AdminAccess"}`: false, `{"arn":"x:ReadOnly"}`: true, `{"policy_arns":"a,b:Admin"}`: false,
	})
	judged(t, `denied_parameters = { "role_arns" = [] }`,
		map[string]bool{`{"arn":"x"}`: false, `{"policy_arns":["x"]}`: true})
	judged(t, `allowed_parameters = { "policy_arns" = ["x"] }`,
		map[string]bool{`{"arn":"x"}`: false, `{"policy_arns":["x"]}`: true})
}

// TestListsAreJudgedByTheirElements: a glob that allows one name does not allow a list that begins
// with it.
func TestListsAreJudgedByTheirElements(t *testing.T) {
	judged(t,
		`allowed_parameters = { "policies" = ["dev*"], "roles" = ["dev*"], "note" = ["dev*"], "tags" = ["env=*"], "any" = ["dev*"] }`,
		map[string]bool{
			`{"policies":"dev-a"}`: true, `{"policies":["dev-a","dev-b"]}`: true, `{"policies":"dev-a,dev-b"}`: true,
			`{"policies":"dev-a, dev-b"}`: true,
			`{"policies":"dev,prod"}`:     false, `{"policies":"dev, prod"}`: false,
			`{"policies":["dev","prod"]}`: false,
			`{"policies":" prod,dev"}`:    false, `{"policies":""}`: false,
			`{"roles":"dev,prod"}`: false, `{"roles":["dev"]}`: true, `{"roles":"dev,"}`: true,
			`{"note":"dev,prod"}`: true, // it is one text
			`{"tags":"env=x"}`:    true, `{"tags":"env=x,admin=true"}`: false, `{"tags":{"env":"x"}}`: false,
			`{"any":"dev,prod"}`: true, // as Vault documents it of what nothing is known of
			`{"any":" dev"}`:     false,
		})
	judged(t, `denied_parameters = { "any" = ["a,b"], "flag" = ["x", ["y"]], "type" = ["kv"] }`, map[string]bool{
		`{"any":"a,b"}`: false, `{"any":["c","a,b"]}`: false, `{"any":["a","b"]}`: true, `{"flag":false}`: true,
		`{"flag":"x"}`:  false,
		`{"type":"kv"}`: false, `{"type":"generic"}`: false, `{"type":"aws"}`: true, `{"type":""}`: true,
	})
	judged(t, `allowed_parameters = { "note" = ["a", "b"] }`,
		map[string]bool{`{"note":"a"}`: true, `{"note":"a,b"}`: false})
	judged(t, `denied_parameters = { "policies" = ["prod"] }`, map[string]bool{
		`{"policies":"dev,prod"}`: false, `{"policies":["dev,prod"]}`: false, `{"policies":["dev"," PROD "]}`: false,
		`{"policies":["dev"]}`: true, `{"policies":["production"]}`: true,
	})
}

// TestNullClears: a rule that denies the empty value also denies null.
func TestNullClears(t *testing.T) {
	for _, empty := range []string{`false`, `"false"`, `0`, `""`, `"0s"`} {
		judged(t, `denied_parameters = { "note" = [`+empty+`] }`,
			map[string]bool{`{"note":null}`: false, `{"note": null }`: false, `{}`: true})
	}
	for _, other := range []string{`"x"`, `5`, `"1h"`, `"1e300"`, `"system"`, `"-1"`, `true`, `[]`} {
		judged(t, `denied_parameters = { "note" = [`+other+`, "x"] }`, map[string]bool{`{"note":null}`: true})
	}
	judged(t, `allowed_parameters = { "note" = ["x"] }`, map[string]bool{`{"note":null}`: false})
}

// TestNamesAreJudgedAsTheyAreActedUpon: in the body, too.
func TestNamesAreJudgedAsTheyAreActedUpon(t *testing.T) {
	judged(t, `allowed_parameters = { "policies" = ["dev", "Team/PA"] }`, map[string]bool{
		`{"policies":["DEV"]}`: true, `{"policies":" Dev "}`: true, `{"policies":"dev,TEAM/pa"}`: true,
		`{"policies":["ops"]}`: false,
	})
	judged(t, `denied_parameters = { "note" = ["secret/", "/database/*", "*/"] }`, map[string]bool{
		`{"note":"secret"}`: false, `{"note":"secret/"}`: false, `{"note":"/SECRET"}`: false,
		`{"note":"database/x"}`: false, `{"note":"/database/x/"}`: false,
		`{"note":"other/"}`: false, `{"note":"other"}`: true, `{"note":"secret/x"}`: true,
	})
}
