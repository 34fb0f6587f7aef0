package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/wire"
)

// value is one value that a rule names for a parameter, or one that a request
// gives it: a text, or a list of texts. Clients write 3600 and "3600", true and "true"
// alike, so numbers and booleans are their texts.
type value struct {
	text   string
	list   []string
	isList bool

	amounts    *amounts   // of the text; nil: it is no amount, or has not been read
	amountList []*amounts // of the list's texts

	kind  wire.Kind           // of a request: what its reader makes of it
	whole bool                // of a request: a text that its reader does not take apart
	spell func(string) string // of a request: how texts are spelled when they are acted upon; nil: as they are
}

// valueOf takes a value as the HCL decoder gives it.
func valueOf(v any) (value, error) {
	list, ok := v.([]any)
	if !ok {
		s, err := scalarOf(v)
		return value{text: s}, err
	}
	out := value{isList: true}
	for _, e := range list {
		s, err := scalarOf(e)
		if err != nil {
			return value{}, err
		}
		out.list = append(out.list, s)
	}
	return out, nil
}

func scalarOf(v any) (string, error) {
	switch t := v.(type) {
	case string:
		return t, nil
	case bool:
		return strconv.FormatBool(t), nil
	case int:
		return strconv.Itoa(t), nil
	case float64:
		return floatText(t), nil
	}
	return "", fmt.Errorf("values are texts, numbers, booleans and lists of these")
}

func floatText(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// valueIn takes the value of a member of a request's body. ok is false for what no rule can
// name: an object, null, or a list that holds one.
func valueIn(raw []byte, name string, form *wire.Form) (v value, ok bool) {
	kind := form.Kind(name)
	v, ok = valueOfText(raw, kind)
	v.kind = kind
	v.whole = form.Shape(name) == wire.Scalar
	if form.Shape(name) == wire.List && !v.isList && ok {
		v.list, v.text, v.isList = wire.SplitList(v.text), "", true
	}
	v.spell = func(s string) string { return form.Spell(name, s) }
	v.text = v.spell(v.text)
	for i, e := range v.list {
		v.list[i] = v.spell(e)
	}
	return v, ok
}

func valueOfText(raw []byte, kind wire.Kind) (v value, ok bool) {
	if !bytes.HasPrefix(raw, []byte{'['}) {
		v.text, ok = scalarIn(raw, kind)
		return v, ok
	}
	var elems []json.RawMessage
	if json.Unmarshal(raw, &elems) != nil {
		return value{}, false
	}
	v, ok = value{isList: true}, true
	for _, e := range elems {
		s, scalar := scalarIn(e, kind)
		if scalar {
			v.list = append(v.list, s)
		}
		ok = ok && scalar
	}
	return v, ok
}

// scalarIn is the text of a string, a number or a boolean. A reader of texts gets a number as it
// was written, others get its value.
func scalarIn(raw []byte, kind wire.Kind) (string, bool) {
	if len(raw) == 0 {
		return "", false
	}
	switch c := raw[0]; {
	case c == '"':
		var s string
		err := json.Unmarshal(raw, &s)
		return s, err == nil
	case c == 't', c == 'f':
		return string(raw), true
	case c == '-', c >= '0' && c <= '9':
		if kind == wire.KindText || strings.Trim(string(raw), "-0123456789") == "" && string(raw) != "-0" {
			return string(raw), true
		}
		if f, err := strconv.ParseFloat(string(raw), 64); err == nil {
			return floatText(f), true
		}
		return string(raw), true
	}
	return "", false
}

// Limits of the work for one request, with all its parameters: comparisons with values, and bytes
// that are searched for patterns. A request that exceeds them is denied.
const (
	maxCompared = 1 << 20
	maxSearched = 1 << 28
)

// work is the rest of these limits for one request.
type work struct{ compared, searched int }

func newWork() *work { return &work{maxCompared, maxSearched} }

// affords subtracts the cost of comparing v with values, and reports whether enough was left.
func (w *work) affords(v value, values []value) bool {
	parts, size := len(v.list)+1, 0
	for _, text := range append(v.list[:len(v.list):len(v.list)], v.text) {
		parts, size = parts+strings.Count(text, ","), size+len(text)
	}
	w.compared -= parts * len(values)
	w.searched -= size * len(values)
	return w.compared >= 0 && w.searched >= 0
}

// allowedBy reports whether v, or each of its parts, is among values. Each element of a list is
// compared, however the list is written: "dev*" does not allow the list "dev,prod".
func (v value) allowedBy(values []value, left *work) bool {
	if !left.affords(v, values) {
		return false
	}
	spelled := make([]value, len(values))
	for i, want := range values {
		spelled[i] = want.spelled(v.spell)
	}
	amount := func(a, b *amounts) bool { return a.exactly(b, v.kind) }
	among := func(given value) bool {
		given = given.withAmounts()
		return slices.ContainsFunc(spelled,
			func(want value) bool { return want.equals(given) || want.sameAmount(given, amount) })
	}
	if among(v) {
		return true
	}
	if v.whole {
		return false
	}
	parts := v.list
	if !v.isList && strings.Contains(v.text, ",") {
		parts = wire.SplitList(v.text)
	}
	return len(parts) > 0 && !slices.ContainsFunc(parts, func(p string) bool { return !among(value{text: p}) })
}

// deniedBy reports whether v, or any of its parts, is among values, which are folded. Case, outer
// spaces and outer slashes are ignored, because engines may fold names. An equal amount in another
// form is also denied.
func (v value) deniedBy(values []value, left *work) bool {
	if !left.affords(v, values) {
		return true
	}
	amount := func(a, b *amounts) bool { return a.perhaps(b, v.kind) }
	among := func(given value) bool {
		given = given.withAmounts()
		bare := given
		bare.text = trimSlashes(given.text)
		return slices.ContainsFunc(values, func(want value) bool {
			if want.equals(given) || want.isTruthOf(given, v.kind) || want.sameAmount(given, amount) {
				return true
			}
			want.text = trimSlashes(want.text)
			return want.equals(bare)
		})
	}
	v = v.fold()
	if among(v) {
		return true
	}
	for _, text := range append(slices.Clone(v.list), v.text) {
		if v.isList && among(value{text: text}) ||
			slices.ContainsFunc(wire.SplitList(text), func(p string) bool { return among(value{text: p}) }) {
			return true
		}
	}
	return false
}

// deniedUnder reports whether v, or another value with the same effect, is denied.
func (v value) deniedUnder(values []value, name string, form *wire.Form, left *work) bool {
	other, ok := form.Means(name, v.text)
	return v.deniedBy(values, left) || ok && value{text: other, kind: v.kind}.deniedBy(values, left)
}

// clearing reports whether the empty value, which null results in, is denied.
func clearing(values []value) bool { return slices.ContainsFunc(values, value.empties) }

// trimSlashes cuts those around a text: "secret/" names the same mount as "secret". What would
// become a pattern for anything stays as it is.
func trimSlashes(s string) string {
	if t := strings.Trim(s, "/"); t != "*" && t != "" {
		return t
	}
	return s
}

func (v value) spelled(spell func(string) string) value {
	if spell == nil {
		return v
	}
	v.text, v.list = spell(v.text), slices.Clone(v.list)
	for i, e := range v.list {
		v.list[i] = spell(e)
	}
	return v
}

func fold(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func (v value) fold() value {
	out := value{text: fold(v.text), isList: v.isList, kind: v.kind}
	for _, e := range v.list {
		out.list = append(out.list, fold(e))
	}
	return out
}

// isTruthOf reports whether v is true or false, and engines take what a request gives for the
// same: 0 and f, and nothing, for false. Where a reader of booleans is known, so are 1 and t in v.
func (v value) isTruthOf(given value, kind wire.Kind) bool {
	if v.isList || given.isList || kind != wire.KindBool && v.text != "true" && v.text != "false" {
		return false
	}
	want, known := truth(v.text)
	got, ok := truth(given.text)
	return known && ok && want == got
}

func truth(text string) (b, ok bool) {
	if text == "" {
		return false, true
	}
	b, err := strconv.ParseBool(text)
	return b, err == nil
}

// equals compares v, whose text may begin or end in *, with what a request gives.
func (v value) equals(given value) bool {
	if v.isList || given.isList {
		return v.isList == given.isList && slices.Equal(v.list, given.list)
	}
	return globbed(v.text, given.text)
}

func globbed(pattern, s string) bool {
	head, tail := strings.HasPrefix(pattern, "*"), strings.HasSuffix(pattern, "*")
	switch {
	case head && tail && len(pattern) > 1:
		return strings.Contains(s, pattern[1:len(pattern)-1])
	case head:
		return strings.HasSuffix(s, pattern[1:])
	case tail:
		return strings.HasPrefix(s, pattern[:len(pattern)-1])
	}
	return s == pattern
}

// withAmounts is a value of a rule, read as amounts once.
func (v value) withAmounts() value {
	v.amounts, v.amountList = amountsOf(v.text), nil
	if v.isList {
		v.amounts = nil
	}
	for _, e := range v.list {
		v.amountList = append(v.amountList, amountsOf(e))
	}
	return v
}

// sameAmount compares v, of a rule, with what a request gives, both with their amounts.
func (v value) sameAmount(given value, equal func(a, b *amounts) bool) bool {
	if v.isList != given.isList {
		return false
	}
	if !v.isList {
		return equal(v.amounts, given.amounts)
	}
	if len(v.list) != len(given.list) {
		return false
	}
	for i := range v.list {
		if v.list[i] != given.list[i] && !equal(v.amountList[i], given.amountList[i]) {
			return false
		}
	}
	return true
}

// empties reports whether v results in the empty value of a field.
func (v value) empties() bool {
	return !v.isList && (slices.Contains([]string{"", "f", "false"}, v.text) || v.amounts.zero())
}
