package recipe

import (
	"encoding/base64"
	"errors"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are the functions that the expressions of a recipe may call. Each reads only its
// arguments and returns at most maxText bytes.
var functions = map[string]function.Function{
	"base64decode": textFunc(decodeBase64, "text"),
	"base64encode": textFunc(
		func(s ...string) (string, error) { return base64.StdEncoding.EncodeToString([]byte(s[0])), nil }, "text"),
	"can":        tryfunc.CanFunc,
	"coalesce":   bounded(stdlib.CoalesceFunc),
	"concat":     bounded(stdlib.ConcatFunc),
	"contains":   bounded(stdlib.ContainsFunc),
	"format":     formatFunc,
	"formatdate": bounded(stdlib.FormatDateFunc),
	"fromunix":   fromUnixFunc,
	"join":       joinFunc,
	"jsondecode": decodeFunc,
	"jsonencode": bounded(stdlib.JSONEncodeFunc),
	"keys":       bounded(stdlib.KeysFunc),
	"length":     bounded(stdlib.LengthFunc),
	"link":       textFunc(link, "header", "relation"),
	"lookup":     lookupFunc,
	"lower":      bounded(stdlib.LowerFunc),
	"merge":      bounded(stdlib.MergeFunc),
	"replace":    textFunc(replace, "text", "old", "new"),
	"split":      splitFunc,
	"timeadd":    bounded(stdlib.TimeAddFunc),
	"tonumber":   toNumberFunc,
	"trim":       bounded(stdlib.TrimFunc),
	"trimprefix": bounded(stdlib.TrimPrefixFunc),
	"trimspace":  bounded(stdlib.TrimSpaceFunc),
	"trimsuffix": bounded(stdlib.TrimSuffixFunc),
	"try":        tryfunc.TryFunc,
	"unixtime":   unixTimeFunc,
	"upper":      bounded(stdlib.UpperFunc),
	"urlencode": textFunc(
		func(s ...string) (string, error) { return strings.ReplaceAll(url.QueryEscape(s[0]), "+", "%20"), nil },
		"text"),
}

// bounded refuses arguments and results larger than maxText. The size of a result is checked after
// the call, so f must return results at most a few times as large as its arguments.
func bounded(f function.Function) function.Function {
	return function.New(&function.Spec{
		Params:   f.Params(),
		VarParam: f.VarParam(),
		Type:     f.ReturnTypeForValues,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			total := 0
			for _, a := range args {
				total += size(a)
			}
			if total > maxText {
				return cty.NilVal, errTooBig
			}
			v, err := f.Call(args)
			if err == nil && size(v) > maxText {
				return cty.NilVal, errTooBig
			}
			return v, err
		},
	})
}

// textFunc makes a function from strings to a string. If the result can be much larger than the
// arguments, f must bound it.
func textFunc(f func(...string) (string, error), names ...string) function.Function {
	var params []function.Parameter
	for _, name := range names {
		params = append(params, function.Parameter{Name: name, Type: cty.String})
	}
	return function.New(&function.Spec{
		Params: params,
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			var in []string
			for _, a := range args {
				in = append(in, a.AsString())
			}
			out, err := f(in...)
			if err == nil && len(out) > maxText {
				err = errTooBig
			}
			return cty.StringVal(out), err
		},
	})
}

func decodeBase64(s ...string) (string, error) {
	out := strings.TrimRight(s[0], "=")
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := enc.DecodeString(out); err == nil {
			return string(b), nil
		}
	}
	return "", errors.New("the text is not base64")
}

func replace(s ...string) (string, error) {
	if s[1] == "" {
		return "", errors.New("there is nothing to replace")
	}
	if n := strings.Count(s[0], s[1]); len(s[0])+n*len(s[2]) > maxText {
		return "", errTooBig
	}
	return strings.ReplaceAll(s[0], s[1], s[2]), nil
}

var linkForm = regexp.MustCompile(`<([^<>]*)>((?:\s*;\s*[a-zA-Z*]+\s*=\s*(?:"[^"]*"|[^",;]*))*)`)

// link finds the URL of a relation in a Link header (RFC 8288).
func link(s ...string) (string, error) {
	for _, m := range linkForm.FindAllStringSubmatch(s[0], 100) {
		for param := range strings.SplitSeq(m[2], ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(param), "=")
			if !strings.EqualFold(strings.TrimSpace(name), "rel") {
				continue
			}
			for rel := range strings.FieldsSeq(strings.Trim(strings.TrimSpace(value), `"`)) {
				if strings.EqualFold(rel, s[1]) {
					return m[1], nil
				}
			}
		}
	}
	return "", errors.New("the header has no such relation")
}

var joinFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "separator", Type: cty.String}, {Name: "list", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		if !args[1].CanIterateElements() || args[1].Type().IsObjectType() || args[1].Type().IsMapType() {
			return cty.NilVal, function.NewArgErrorf(1, "want a list")
		}
		if !args[1].IsWhollyKnown() {
			return cty.UnknownVal(cty.String), nil
		}
		var parts []string
		for it := args[1].ElementIterator(); it.Next(); {
			_, v := it.Element()
			s, _, err := text(v)
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(1, "want a list of strings")
			}
			parts = append(parts, s)
		}
		separator := args[0].AsString()
		if len(parts)*len(separator)+size(args[1]) > maxText {
			return cty.NilVal, errTooBig
		}
		return cty.StringVal(strings.Join(parts, separator)), nil
	},
})

var splitFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "separator", Type: cty.String}, {Name: "text", Type: cty.String}},
	Type:   function.StaticReturnType(cty.List(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		separator, text := args[0].AsString(), args[1].AsString()
		if separator == "" {
			return cty.NilVal, function.NewArgErrorf(0, "the separator is empty")
		}
		if strings.Count(text, separator) >= maxValues {
			return cty.NilVal, errTooBig
		}
		var out []cty.Value
		for part := range strings.SplitSeq(text, separator) {
			out = append(out, cty.StringVal(part))
		}
		return cty.ListVal(out), nil
	},
})

// lookupFunc returns one element of an object or a map, or the default if there is no such
// element.
var lookupFunc = function.New(&function.Spec{
	Params: []function.Parameter{
		{Name: "object", Type: cty.DynamicPseudoType}, {Name: "name", Type: cty.String},
		{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true},
	},
	Type: function.StaticReturnType(cty.DynamicPseudoType),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		t := args[0].Type()
		if !t.IsObjectType() && !t.IsMapType() {
			return cty.NilVal, function.NewArgErrorf(0, "want an object or a map")
		}
		if v, ok := args[0].AsValueMap()[args[1].AsString()]; ok {
			return v, nil
		}
		return args[2], nil
	},
})

var decodeFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "text", Type: cty.String}},
	Type:   function.StaticReturnType(cty.DynamicPseudoType),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		return parseJSON([]byte(args[0].AsString()))
	},
})

var toNumberFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		switch args[0].Type() {
		case cty.Number:
			return args[0], nil
		case cty.String:
			return parseNumber(args[0].AsString())
		}
		return cty.NilVal, function.NewArgErrorf(0, "want a number or a string")
	},
})

// unixTimeFunc converts an RFC 3339 time to seconds since 1970.
var unixTimeFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "time", Type: cty.String}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		t, err := time.Parse(time.RFC3339, args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "want an RFC 3339 time")
		}
		return cty.NumberIntVal(t.Unix()), nil
	},
})

// fromUnixFunc converts seconds since 1970 to an RFC 3339 time.
var fromUnixFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "seconds", Type: cty.Number}},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		seconds, _ := args[0].AsBigFloat().Float64()
		if seconds < 0 || seconds > 253402300799 { // the year 9999
			return cty.NilVal, function.NewArgErrorf(0, "the time is out of range; divide milliseconds by 1000")
		}
		whole := int64(seconds)
		t := time.Unix(whole, int64((seconds-float64(whole))*1e9)).UTC()
		return cty.StringVal(t.Format(time.RFC3339)), nil
	},
})

var formatVerb = regexp.MustCompile(`%(%|s|d|0[0-9]{1,2}d|.?)`)

// formatFunc supports %s, %d, %05d and %%. Widths are bounded. %d accepts only numbers, because
// the string "1e999999999" would become a gigabyte of digits.
var formatFunc = function.New(&function.Spec{
	Params:   []function.Parameter{{Name: "format", Type: cty.String}},
	VarParam: &function.Parameter{Name: "values", Type: cty.DynamicPseudoType},
	Type:     function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		rest, total := args[1:], 0
		var fault error
		out := formatVerb.ReplaceAllStringFunc(args[0].AsString(), func(verb string) string {
			if verb == "%%" {
				return "%"
			}
			if len(rest) == 0 {
				fault = errors.New("the format wants more values")
				return ""
			}
			s, err := formatOne(verb, rest[0])
			rest, total = rest[1:], total+len(s)
			if total > maxText {
				err = errTooBig
			}
			if err != nil {
				fault = err
				return ""
			}
			return s
		})
		if fault == nil && len(rest) > 0 {
			fault = errors.New("the format wants fewer values")
		}
		return cty.StringVal(out), fault
	},
})

func formatOne(verb string, v cty.Value) (string, error) {
	s, ok, err := text(v)
	switch {
	case err != nil:
		return "", err
	case verb == "%s":
		return s, nil
	case !strings.HasSuffix(verb, "d") || len(verb) < 2:
		return "", errors.New("the format may have %s, %d, %05d and %% only")
	case !ok || v.Type() != cty.Number:
		return "", errors.New("%d wants a number; use tonumber")
	}
	if whole, _, found := strings.Cut(s, "."); found {
		s = whole
	}
	width, _ := strconv.Atoi(strings.Trim(verb, "%d")) // "" is 0
	sign := ""
	if digits, negative := strings.CutPrefix(s, "-"); negative {
		sign, s = "-", digits
	}
	return sign + strings.Repeat("0", max(0, width-len(sign)-len(s))) + s, nil
}
