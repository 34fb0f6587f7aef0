package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Decode fills the struct that into points to from a JSON object that [Check] has accepted, by the
// fields' json tags. Embedded structs count as their fields, and a field that is a struct is
// filled in the same way; a field without a json tag, or with "-", is left alone. It returns the
// names that the struct does not have, "config.foo" for one of a field, and an error of kind
// Invalid that names the first field whose value does not fit. Where the struct has a
// map[string]Raw tagged json:",rest", that takes what else the object has, and no name is unknown.
//
// An update has a pointer for each field, and nil means that the field keeps what it has:
//   - A field that the object does not name stays nil.
//   - null clears: the pointer leads to the zero value. A field whose zero value is not its
//     default is a pointer to a pointer, which leads to nil then; see [Default].
//   - "" stays nil where an empty text is no value: for numbers, booleans, times, durations and
//     [TTL]s. Clients that send all fields of a type send it for those that nobody has set.
func Decode(body []byte, into any) (unknown []string, err error) {
	if len(body) == 0 {
		return nil, nil
	}
	v := reflect.ValueOf(into).Elem()
	if d := decoderOf(v.Type()); d.passthrough() {
		return nil, d.all(v, body)
	}
	in := decoding{}
	err = in.object("", v, body)
	return in.unknown, err
}

// Default applies an update to a field whose default is not its zero value: absent keeps it, null
// sets the default.
func Default[T any](to *T, given **T, otherwise T) {
	switch {
	case given == nil:
	case *given == nil:
		*to = otherwise
	default:
		*to = **given
	}
}

// A decoding is one call of Decode.
type decoding struct{ unknown []string }

// object fills v from an object; prefix is what leads to its fields.
func (in *decoding) object(prefix string, v reflect.Value, body []byte) error {
	d := decoderOf(v.Type())
	return EachField(body, func(name string, value []byte) error {
		f, ok := d.fields[name]
		switch {
		case !ok && d.rest != nil:
			rest := v.FieldByIndex(d.rest)
			if rest.IsNil() {
				rest.Set(reflect.ValueOf(map[string]Raw{}))
			}
			rest.SetMapIndex(reflect.ValueOf(name), reflect.ValueOf(RawOf(value)))
			return nil
		case !ok:
			in.unknown = append(in.unknown, prefix+name)
			return nil
		}
		to := v.FieldByIndex(f.index)
		switch {
		case string(value) == "null":
			clearField(to)
			return nil
		case f.nested && value[0] == '{':
			if to.Kind() == reflect.Pointer {
				to.Set(reflect.New(to.Type().Elem()))
				to = to.Elem()
			}
			return in.object(prefix+name+".", to, value)
		case f.nested:
			return fault.New("wire.Decode", fault.Invalid, "field %q: want an object", prefix+name)
		}
		if why := f.set(to, value); why != "" {
			return fault.New("wire.Decode", fault.Invalid, "field %q: %s", prefix+name, why)
		}
		return nil
	})
}

// clearField applies null to a field.
func clearField(v reflect.Value) {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return
	}
	v.SetZero()
}

// SetText fills the field with a json tag from text, the value of a query parameter. known is
// false if the struct has no such field.
func SetText(into any, name, text string) (known bool, err error) {
	v := reflect.ValueOf(into).Elem()
	f, ok := decoderOf(v.Type()).fields[name]
	if !ok {
		return false, nil
	}
	quoted := AppendString(nil, text)
	if why := f.set(v.FieldByIndex(f.index), quoted); why != "" {
		return true, fault.New("wire.SetText", fault.Invalid, "parameter %q: %s", name, why)
	}
	return true, nil
}

type decoderField struct {
	index  []int
	set    setter
	nested bool // a struct with fields of its own
}

type decoder struct {
	fields map[string]decoderField
	whole  []int // the field tagged json:",whole", for the entire body
	rest   []int // the field tagged json:",rest", for all other members
}

func (d *decoder) passthrough() bool { return d.whole != nil }

func (d *decoder) all(v reflect.Value, body []byte) error {
	v.FieldByIndex(d.whole).Set(reflect.ValueOf(RawOf(body)))
	return nil
}

var decoders sync.Map // reflect.Type → *decoder

func decoderOf(t reflect.Type) *decoder {
	if d, ok := decoders.Load(t); ok {
		return d.(*decoder)
	}
	d := &decoder{fields: map[string]decoderField{}}
	for _, f := range reflect.VisibleFields(t) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if opts == "whole" && f.Type == reflect.TypeFor[Raw]() {
			d.whole = f.Index
		}
		if opts == "rest" && f.Type == reflect.TypeFor[map[string]Raw]() {
			d.rest = f.Index
		}
		if name == "" || name == "-" || !f.IsExported() {
			continue
		}
		d.fields[name] = decoderField{f.Index, within(setterOf(f.Type), limitOf(f)), isNested(f.Type)}
	}
	decoders.Store(t, d)
	return d
}

// isNested reports whether a field is a struct that is filled field by field.
func isNested(t reflect.Type) bool {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return false
	}
	switch t {
	case reflect.TypeFor[secret.Value](), reflect.TypeFor[Raw](), reflect.TypeFor[time.Time]():
		return false
	}
	return true
}

// emptyIsNone reports whether "" is no value of a type.
func emptyIsNone(t reflect.Type) bool {
	if t == reflect.TypeFor[time.Time]() || reflect.PointerTo(t).Implements(reflect.TypeFor[textSetter]()) {
		return true
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Int32, reflect.Float64:
		return true
	case reflect.Pointer:
		return emptyIsNone(t.Elem())
	}
	return false
}

func setByText(v reflect.Value, b []byte) string {
	s, ok := scalar(b)
	if !ok {
		return errDuration.Error()
	}
	if err := v.Addr().Interface().(textSetter).setText(s); err != nil {
		return err.Error()
	}
	return ""
}

func setterOf(t reflect.Type) setter {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[textSetter]()) {
		return setByText
	}
	switch t {
	case reflect.TypeFor[secret.Value]():
		return setSecret
	case reflect.TypeFor[Raw]():
		return func(v reflect.Value, b []byte) string { v.Set(reflect.ValueOf(RawOf(b))); return "" }
	case reflect.TypeFor[time.Duration]():
		return setDuration
	case reflect.TypeFor[time.Time]():
		return setTime
	}
	switch t.Kind() {
	case reflect.Pointer:
		inner, none := setterOf(t.Elem()), emptyIsNone(t.Elem())
		return func(v reflect.Value, b []byte) string {
			if none && string(b) == `""` {
				return ""
			}
			p := reflect.New(t.Elem())
			if why := inner(p.Elem(), b); why != "" {
				return why
			}
			v.Set(p)
			return ""
		}
	case reflect.String:
		spelled := t.Implements(reflect.TypeFor[canonical]()) // as memberOf has it
		return func(v reflect.Value, b []byte) string {
			s, ok := scalar(b)
			if !ok {
				return "want a string"
			}
			v.SetString(s)
			if spelled {
				v.SetString(v.Addr().Interface().(canonical).Canonical())
			}
			return ""
		}
	case reflect.Bool:
		return setBool
	case reflect.Int, reflect.Int64, reflect.Int32:
		return setInt
	case reflect.Float64:
		return setFloat
	case reflect.Slice:
		return sliceSetter(t)
	case reflect.Map:
		return mapSetter(t)
	}
	return func(v reflect.Value, b []byte) string {
		if err := json.Unmarshal(b, v.Addr().Interface()); err != nil {
			if f, ok := errors.AsType[*fault.Error](err); ok { // in words of the type's own
				return fault.Message(f)
			}
			return "its form is wrong"
		}
		return ""
	}
}

func setSecret(v reflect.Value, b []byte) string {
	s, ok := scalar(b)
	if !ok {
		return "want a string"
	}
	v.Set(reflect.ValueOf(secret.Text(s)))
	return ""
}

func setDuration(v reflect.Value, b []byte) string {
	s, ok := scalar(b)
	if !ok {
		return `want a duration such as "1h30m" or a number of seconds`
	}
	d, err := ParseDuration(s)
	if err != nil {
		return err.Error()
	}
	v.SetInt(int64(d))
	return ""
}

func setTime(v reflect.Value, b []byte) string {
	s, ok := scalar(b)
	if ok && s == "" {
		return ""
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if !ok || err != nil {
		return `want a time such as "2026-03-09T00:00:00Z"`
	}
	v.Set(reflect.ValueOf(t))
	return ""
}

func setBool(v reflect.Value, b []byte) string {
	s, ok := scalar(b)
	x, err := strconv.ParseBool(strings.ToLower(s))
	if ok && s == "" {
		x, err = false, nil
	}
	if !ok || err != nil {
		return "want true or false"
	}
	v.SetBool(x)
	return ""
}

func setInt(v reflect.Value, b []byte) string {
	s, ok := scalar(b)
	if ok && s == "" {
		return ""
	}
	n, err := strconv.ParseInt(s, 10, v.Type().Bits())
	if err != nil {
		f, ferr := strconv.ParseFloat(s, 64)
		switch {
		case ok && (math.Abs(f) >= 1<<63 || errors.Is(err, strconv.ErrRange)) && f == math.Trunc(f):
			return wholeRange(v.Type().Bits())
		case ferr != nil || f != math.Trunc(f):
			return "want a whole number"
		case math.Abs(f) > 1<<53:
			return "want a whole number, with all its digits written out"
		}
		n = int64(f)
	}
	if !ok {
		return "want a whole number"
	}
	if v.OverflowInt(n) {
		return wholeRange(v.Type().Bits())
	}
	v.SetInt(n)
	return ""
}

// wholeRange says which numbers an integer of some bits can be.
func wholeRange(bits int) string {
	return fmt.Sprintf("want a whole number from %d to %d", math.MinInt64>>(64-bits), math.MaxInt64>>(64-bits))
}

func setFloat(v reflect.Value, b []byte) string {
	s, ok := scalar(b)
	f, err := strconv.ParseFloat(s, 64)
	if !ok || err != nil {
		return "want a number"
	}
	v.SetFloat(f)
	return ""
}

// sliceSetter accepts an array or, for strings, a comma-separated text.
func sliceSetter(t reflect.Type) setter {
	elem := setterOf(t.Elem())
	return func(v reflect.Value, b []byte) string {
		out := reflect.MakeSlice(t, 0, 4)
		add := func(text []byte) string {
			e := reflect.New(t.Elem()).Elem()
			if why := elem(e, text); why != "" {
				return why
			}
			out = reflect.Append(out, e)
			return ""
		}
		why := ""
		if len(b) > 0 && b[0] == '[' {
			why = eachElement(b, func(text []byte) string {
				if string(text) == "null" { // says nothing
					return ""
				}
				return add(text)
			})
		} else if s, ok := scalar(b); ok && strings.Count(s, ",") > DefaultLimits.Elements {
			// For Check it is one string: it must not make more values than an array.
			why = fmt.Sprintf("it has more than %d elements", DefaultLimits.Elements)
		} else if ok {
			for _, part := range SplitList(s) {
				if why == "" {
					why = add(AppendString(nil, part))
				}
			}
		} else {
			why = "want a list"
		}
		if why == "" {
			v.Set(out)
		}
		return why
	}
}

func eachElement(b []byte, f func([]byte) string) string {
	s := scanner{b: b, i: 1}
	for {
		s.space()
		if s.i < len(b) && b[s.i] == ']' {
			return ""
		}
		from := s.i
		if s.value(1) != nil {
			return "want a list"
		}
		if why := f(b[from:s.i]); why != "" {
			return why
		}
		if done, err := s.next(']'); err != nil {
			return "want a list"
		} else if done {
			return ""
		}
	}
}

// mapSetter accepts an object, or a list of "k=v", which some clients send.
func mapSetter(t reflect.Type) setter {
	elem := setterOf(t.Elem())
	return func(v reflect.Value, b []byte) string {
		out := reflect.MakeMap(t)
		put := func(k string, text []byte) string {
			e := reflect.New(t.Elem()).Elem()
			if string(text) != "null" || t.Elem() == reflect.TypeFor[Raw]() {
				if why := elem(e, text); why != "" {
					return why
				}
			} else if t.Elem().Kind() != reflect.Pointer { // else nil tells it
				return ""
			}
			out.SetMapIndex(reflect.ValueOf(k).Convert(t.Key()), e)
			return ""
		}
		why := ""
		switch {
		case len(b) > 0 && b[0] == '{':
			if err := EachField(b, func(k string, text []byte) error {
				if why == "" {
					why = put(k, text)
				}
				return nil
			}); err != nil {
				return "want an object"
			}
		case len(b) > 0 && b[0] == '[':
			why = eachElement(b, func(e []byte) string { return pair(e, put) })
		default:
			s, ok := scalar(b)
			if ok && s == "" {
				break
			}
			if !ok {
				return "want an object"
			}
			why = pair(b, put)
		}
		if why == "" {
			v.Set(out)
		}
		return why
	}
}

func pair(text []byte, put func(string, []byte) string) string {
	s, ok := scalar(text)
	k, val, cut := strings.Cut(s, "=")
	if !ok || !cut {
		return "want an object, or key=value"
	}
	return put(k, AppendString(nil, val))
}
