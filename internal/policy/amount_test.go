package policy_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/keyturn/keyturn/internal/policy"
	"github.com/keyturn/keyturn/internal/wire"
)

// TestAmountsInOtherWords: a denied amount is denied in every form; an allowed one is allowed in
// other forms if the parameter is known to be an amount.
func TestAmountsInOtherWords(t *testing.T) {
	zeros := strings.Repeat("0", 300)
	// Nothing is known of the parameters.
	bodies(t,
		set(t, with(
			`denied_parameters = { "n" = ["0"], "ttl" = ["1h"], "pin" = ["7"], "rate" = [2.5], "id" = ["12345678901234567890"], "l" = [["1", "1h"]], "neg" = [-5] }`)),
		map[string]bool{
			`{"n":"00"}`: false, `{"n":""}`: false, `{"n":" "}`: false, `{"n":"+0"}`: false, `{"n":"-0"}`: false,
			`{"n":-0}`: false, `{"n":"0.0"}`: false, `{"n":"0e5"}`: false, `{"n":"0x0p0"}`: false,
			`{"n":"0s"}`: false, `{"n":"0d"}`: false, `{"n":null}`: false, `{"n":["00"]}`: false,
			`{"n":"1,00"}`:          false,
			`{"n":"` + zeros + `"}`: false,
			`{"n":"01"}`:            true, `{"n":"x"}`: true, `{"n":"system"}`: true, `{"n":"0x"}`: true,
			`{"ttl":"60m"}`: false, `{"ttl":3600}`: false, `{"ttl":"3600s"}`: false, `{"ttl":"03600"}`: false,
			`{"ttl":"3.6e3"}`: false, `{"ttl":3.6e3}`: false, `{"ttl":"1H"}`: false, `{"ttl":" 60m "}`: false,
			`{"ttl":"59m60s"}`: false, `{"ttl":"0d1h"}`: false, `{"ttl":["60m"]}`: false, `{"ttl":"61m"}`: true,
			`{"ttl":"3600h"}`: true,
			`{"pin":"007"}`:   false, `{"pin":"7s"}`: false, `{"pin":"0070"}`: true, `{"rate":"2.50"}`: false,
			`{"rate":"25e-1"}`: false, `{"rate":2.6}`: true,
			`{"id":12345678901234567890}`: false, `{"id":"012345678901234567890"}`: false,
			`{"id":"12345678901234567891"}`: true, `{"id":12345678901234567891}`: true,
			`{"l":["01","60m"]}`: false, `{"l":["01","61m"]}`: true, `{"l":["01"]}`: true, `{"neg":"-05"}`: false,
			`{"neg":"-6"}`: true,
		})
	long := strings.Repeat("9", 400) // no float, and no duration
	bodies(t, set(t, with(`denied_parameters = { "n" = ["`+long+`"] }`)),
		map[string]bool{`{"n":` + long + `}`: false, `{"n":"00` + long + `"}`: false, `{"n":"8` + long + `"}`: true})
	bodies(t, set(t, with(`denied_parameters = { "n" = ["1e400"] }`)),
		map[string]bool{`{"n":1e400}`: false, `{"n":1e401}`: true})
	bodies(t, set(t, with(
		`allowed_parameters = { "n" = ["5"], "ttl" = ["1h"], "id" = ["12345678901234567168"] }`)), map[string]bool{
		`{"n":"5"}`: true, `{"n":5}`: true, `{"n":"05"}`: false, `{"ttl":"1h"}`: true, `{"ttl":"60m"}`: false,
		`{"ttl":3600}`:                false,
		`{"id":12345678901234567890}`: false, `{"id":12345678901234567168}`: true,
	})
	// What is known decides.
	judged(t,
		`denied_parameters = { "ttl" = ["0"], "uses" = ["5"], "flag" = [1], "note" = ["0", "7", "system"], "bound" = [0], "life" = ["-1"], "ns" = [3] }`,
		map[string]bool{
			`{"ttl":""}`: false, `{"ttl":"00"}`: false, `{"lease":"0h"}`: false, `{"ttl":null}`: false,
			`{"ttl":"1s"}`:  true,
			`{"uses":"05"}`: false, `{"uses":5.0}`: false, `{"uses":"5e0"}`: false, `{"uses":"5s"}`: true,
			`{"flag":true}`: false, `{"flag":"T"}`: false, `{"flag":false}`: true, `{"note":""}`: true,
			`{"note":"007"}`: false, `{"note":"7.0"}`: false, `{"note":"70"}`: true,
			`{"bound":"system"}`: false, `{"bound":"0m"}`: false, `{"bound":"1"}`: true, `{"life":"-1s"}`: false,
			`{"life":"-5h"}`: false, `{"life":"5h"}`: true, `{"life":"1e300"}`: true,
			`{"ns":["03"]}`: false, `{"ns":"1,3.0"}`: false, `{"ns":[1,2]}`: true,
		})
	judged(t, `denied_parameters = { "uses" = [""], "note" = [""] }`,
		map[string]bool{`{"uses":0}`: false, `{"uses":"00"}`: false, `{"note":"0"}`: true, `{"note":""}`: false})
	judged(t,
		`allowed_parameters = { "ttl" = ["1h"], "uses" = ["5", 1e3], "note" = ["7", "1000"], "ns" = [1, 2], "flag" = [true] }`,
		map[string]bool{
			`{"ttl":"60m"}`: true, `{"ttl":3600}`: true, `{"ttl":"3600s"}`: true, `{"lease":"0d60m"}`: true,
			`{"ttl":"61m"}`: false, `{"ttl":"1h1ns"}`: false, `{"ttl":"3600000"}`: false,
			`{"uses":5.0}`: true, `{"uses":"05"}`: true, `{"uses":1000}`: true, `{"uses":"5s"}`: false,
			`{"uses":6}`: false, `{"uses":"0x5"}`: false,
			`{"note":"007"}`: false, `{"note":"7s"}`: false, `{"note":7}`: true, `{"note":7.0}`: false,
			`{"note":1e3}`: false, `{"note":1000}`: true,
			`{"ns":["01",2.0]}`: true, `{"ns":"01,2"}`: true, `{"ns":[1,3]}`: false,
		})
	judged(t, `allowed_parameters = { "uses" = ["1e3", "0.0", 5], "life" = ["-1"] }`, map[string]bool{
		`{"uses":1000}`: true, `{"uses":"+1000"}`: true, `{"uses":"0"}`: true, `{"uses":"5.0"}`: true,
		`{"uses":"1h"}`: false, `{"life":"-3h"}`: true, `{"life":"1ns"}`: false, `{"life":"1e300"}`: false,
	})
	judged(t, `allowed_parameters = { "uses" = [9007199254740993] }`, map[string]bool{
		`{"uses":9007199254740993}`: true, `{"uses":"+9007199254740993"}`: true,
		`{"uses":"9007199254740992"}`: false, `{"uses":"9007199254740992.0"}`: false,
	})
}

// TestAmountsAreJudgedAsDecoded: two texts that the decoder reads as the same value are denied
// together, and only such texts are allowed together.
func TestAmountsAreJudgedAsDecoded(t *testing.T) {
	texts := []string{
		"", " ", "0", "00", "-0", "+0", "0s", "0d", "1ns", "system", "SYSTEM", "1", "01", "+1", "1s", "1.0", "1.5",
		"1e0", "10e-1", "0x1p0", "true", "t", "T", "false", "F", "1000", "1e3", "1000s", "16m40s",
		"1h", "60m", "3600", "3600s", "0d1h", "1d", "24h", "-1", "-1s", "-1h", "- 1", "x", "inf", "nan", "1e400",
		"9007199254740992", "9007199254740993", "9007199254740993.0", "9223372036854775807",
	}
	f := wire.FormOf(reflect.TypeFor[form]())
	for _, field := range []string{"ttl", "uses", "flag", "bound", "life"} {
		decoded := func(text string) (string, bool) {
			var in form
			_, err := wire.Decode([]byte(`{"`+field+`":"`+text+`"}`), &in)
			uses, bound := 0, wire.TTL(0)
			if in.Uses != nil {
				uses = *in.Uses
			}
			if in.Bound != nil {
				bound = *in.Bound
			}
			return fmt.Sprint(in.TTL, uses, in.Flag, bound, in.Life), err == nil
		}
		for _, rule := range texts {
			want, ok := decoded(rule)
			if !ok {
				continue
			}
			denied, allowed := set(t, with(`denied_parameters = { "`+field+`" = ["`+rule+`"] }`)), set(t,
				with(`allowed_parameters = { "`+field+`" = ["`+rule+`"] }`))
			for _, text := range texts {
				got, ok := decoded(text)
				if !ok {
					continue
				}
				q := policy.Query{
					Path: "a", Op: policy.Update, Form: f, Body: []byte(`{"` + field + `":"` + text + `"}`),
				}
				if got == want && denied.Decide(q).Allowed {
					t.Errorf("%s: denied %q, and %q does the same and is allowed", field, rule, text)
				}
				if got != want && allowed.Decide(q).Allowed {
					t.Errorf("%s: allowed %q, and %q is not the same and is allowed", field, rule, text)
				}
			}
		}
	}
}
