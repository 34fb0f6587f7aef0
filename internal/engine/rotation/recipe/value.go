package recipe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// Limits on what a provider sends. Together with the limits on expressions in check.go, they bound
// the memory and the time of one expression.
const (
	maxReply  = 1 << 20 // bytes of a reply
	maxDepth  = 64      // nested arrays and objects of a JSON text
	maxValues = 20_000  // values of a JSON text
	maxText   = 2 << 20 // bytes of any value that a function takes or makes
	maxURL    = 8 << 10
)

// sensitive marks values that hold a secret. cty carries the mark to every value that is computed
// from one, so a composed header or URL is known to be secret, too.
const sensitive = mark("sensitive")

type mark string

var (
	errTooBig = errors.New("the value is too large")
	errJSON   = errors.New("the text is not JSON")
)

// parseJSON parses one JSON text within the limits. Its errors quote nothing of the text.
func parseJSON(text []byte) (cty.Value, error) {
	if !utf8.Valid(text) {
		return cty.NilVal, errJSON
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	left := maxValues
	v, err := readJSON(d, 0, &left)
	if err != nil {
		return cty.NilVal, err
	}
	if _, err := d.Token(); err != io.EOF {
		return cty.NilVal, errJSON
	}
	return v, nil
}

func readJSON(d *json.Decoder, depth int, left *int) (cty.Value, error) {
	token, err := d.Token()
	if err != nil {
		return cty.NilVal, errJSON
	}
	if *left--; *left < 0 || depth >= maxDepth {
		return cty.NilVal, errTooBig
	}
	switch t := token.(type) {
	case nil:
		return cty.NullVal(cty.DynamicPseudoType), nil
	case bool:
		return cty.BoolVal(t), nil
	case string:
		return cty.StringVal(t), nil
	case json.Number:
		return parseNumber(string(t))
	case json.Delim:
		if t == '[' {
			return readArray(d, depth, left)
		}
		return readObject(d, depth, left)
	}
	return cty.NilVal, errJSON
}

func readArray(d *json.Decoder, depth int, left *int) (cty.Value, error) {
	var items []cty.Value
	for d.More() {
		v, err := readJSON(d, depth+1, left)
		if err != nil {
			return cty.NilVal, err
		}
		items = append(items, v)
	}
	if _, err := d.Token(); err != nil {
		return cty.NilVal, errJSON
	}
	return cty.TupleVal(items), nil
}

func readObject(d *json.Decoder, depth int, left *int) (cty.Value, error) {
	attrs := map[string]cty.Value{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return cty.NilVal, errJSON
		}
		v, err := readJSON(d, depth+1, left)
		if err != nil {
			return cty.NilVal, err
		}
		attrs[cty.NormalizeString(name.(string))] = v
	}
	if _, err := d.Token(); err != nil {
		return cty.NilVal, errJSON
	}
	return cty.ObjectVal(attrs), nil
}

// numberForm bounds the length and the exponent of a number. As text, 1e999999999 takes a few
// bytes; when it is printed, it takes a gigabyte.
var numberForm = regexp.MustCompile(`^-?[0-9]{1,64}(\.[0-9]{1,64})?([eE][+-]?[0-9]{1,3})?$`)

func parseNumber(text string) (cty.Value, error) {
	if !numberForm.MatchString(text) {
		return cty.NilVal, errors.New("the number is out of range")
	}
	return cty.ParseNumberVal(text)
}

// printable reports whether v is anything but a number, or a number of bounded length.
func printable(v cty.Value) bool {
	if v.Type() != cty.Number || v.IsNull() || !v.IsKnown() {
		return true
	}
	f := v.AsBigFloat()
	return !f.IsInf() && f.MantExp(nil) < 8192 && f.MantExp(nil) > -8192
}

// size returns the approximate size of v in bytes, without its marks.
func size(v cty.Value) int {
	v, _ = v.UnmarkDeep()
	total := 0
	_ = cty.Walk(v, func(_ cty.Path, v cty.Value) (bool, error) {
		total += 16
		if v.IsKnown() && !v.IsNull() && v.Type() == cty.String {
			total += len(v.AsString())
		}
		return true, nil
	})
	return total
}

// text converts an unmarked scalar to a string. text returns "" and false for null.
func text(v cty.Value) (string, bool, error) {
	if v.IsNull() {
		return "", false, nil
	}
	if !printable(v) {
		return "", false, errTooBig
	}
	s, err := convert.Convert(v, cty.String)
	if err != nil || !s.IsKnown() {
		return "", false, fmt.Errorf("want a string, got %s", v.Type().FriendlyName())
	}
	return s.AsString(), true, nil
}

// eachString calls f for every string in an unmarked value.
func eachString(v cty.Value, f func(string)) {
	_ = cty.Walk(v, func(_ cty.Path, v cty.Value) (bool, error) {
		if v.IsKnown() && !v.IsNull() && v.Type() == cty.String {
			f(v.AsString())
		}
		return true, nil
	})
}
