package wire

import (
	"encoding"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// A Leaf replaces the plaintext of one leaf for the audit log: it appends a whole JSON value to
// dst.
type Leaf func(dst, plain []byte) []byte

// Append appends v as JSON for a client, with secrets revealed. v consists of structs with json
// tags, maps with string keys, slices, pointers, strings, numbers, booleans, times, durations,
// [secret.Value] and [Raw]. Keys of maps are sorted.
func Append(dst []byte, v any) []byte { return appendAny(dst, v, nil) }

// AppendAudit appends v as JSON with each string, number and boolean replaced by leaf. Keys and
// null stay unchanged. Members of the outermost object whose names are in clear are written
// unchanged.
func AppendAudit(dst []byte, v any, leaf Leaf, clear ...string) []byte {
	if len(clear) == 0 || v == nil {
		return appendAny(dst, v, leaf)
	}
	text := Append(nil, v)
	first := true
	dst = append(dst, '{')
	err := EachField(text, func(name string, value []byte) error {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(AppendString(dst, name), ':')
		if slices.Contains(clear, name) {
			dst = append(dst, value...)
		} else {
			dst = appendRaw(dst, value, leaf)
		}
		return nil
	})
	if err != nil { // not an object
		return appendAny(dst[:len(dst)-1], v, leaf)
	}
	return append(dst, '}')
}

// An encoder appends a value; leaf is nil for the client's form.
type encoder func(dst []byte, v reflect.Value, leaf Leaf) []byte

var encoders sync.Map // reflect.Type → encoder

func appendAny(dst []byte, v any, leaf Leaf) []byte {
	switch t := v.(type) {
	case nil:
		return append(dst, "null"...)
	case Raw:
		return appendRaw(dst, t.v.Reveal(), leaf)
	}
	rv := reflect.ValueOf(v)
	return encoderOf(rv.Type())(dst, rv, leaf)
}

func encoderOf(t reflect.Type) encoder {
	if e, ok := encoders.Load(t); ok {
		return e.(encoder)
	}
	// A recursive type refers to itself while its plan is made; it looks up the finished plan when
	// it runs.
	lazy := encoder(func(dst []byte, v reflect.Value, leaf Leaf) []byte {
		e, _ := encoders.Load(t)
		return e.(encoder)(dst, v, leaf)
	})
	if e, busy := encoders.LoadOrStore(t, lazy); busy {
		return e.(encoder)
	}
	e := makeEncoder(t)
	encoders.Store(t, e)
	return e
}

func makeEncoder(t reflect.Type) encoder {
	switch t {
	case reflect.TypeFor[secret.Value]():
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			return text(dst, held[secret.Value](v).Reveal(), leaf)
		}
	case reflect.TypeFor[Raw]():
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			return appendRaw(dst, held[Raw](v).v.Reveal(), leaf)
		}
	case reflect.TypeFor[time.Time]():
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			return appendTime(dst, held[time.Time](v), leaf)
		}
	case reflect.TypeFor[time.Duration]():
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			return integer(dst, Seconds(time.Duration(v.Int())), leaf)
		}
	}
	if t.Implements(reflect.TypeFor[encoding.TextMarshaler]()) && t.Kind() != reflect.Pointer &&
		t.Kind() != reflect.Interface {
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			b, err := v.Interface().(encoding.TextMarshaler).MarshalText()
			if err != nil {
				return append(dst, "null"...)
			}
			return text(dst, b, leaf)
		}
	}
	return encoderOfKind(t)
}

// held is what v holds. Where v is part of what a pointer points to, it is not
// copied to the heap for that.
func held[T any](v reflect.Value) T {
	if v.CanAddr() {
		return *v.Addr().Interface().(*T)
	}
	return v.Interface().(T)
}

func encoderOfKind(t reflect.Type) encoder {
	switch t.Kind() {
	case reflect.String:
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			if leaf == nil {
				return AppendString(dst, v.String())
			}
			return leaf(dst, []byte(v.String()))
		}
	case reflect.Bool:
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			if leaf == nil {
				return strconv.AppendBool(dst, v.Bool())
			}
			return leaf(dst, strconv.AppendBool(nil, v.Bool()))
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			return integer(dst, v.Int(), leaf)
		}
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			return bare(dst, strconv.AppendUint(nil, v.Uint(), 10), leaf)
		}
	case reflect.Float32, reflect.Float64:
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			return bare(dst, strconv.AppendFloat(nil, v.Float(), 'g', -1, 64), leaf)
		}
	case reflect.Pointer:
		inner := encoderOf(t.Elem())
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			if v.IsNil() {
				return append(dst, "null"...)
			}
			return inner(dst, v.Elem(), leaf)
		}
	case reflect.Interface:
		return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
			if v.IsNil() {
				return append(dst, "null"...)
			}
			return appendAny(dst, v.Elem().Interface(), leaf)
		}
	case reflect.Slice, reflect.Array:
		return listEncoder(t)
	case reflect.Map:
		return mapEncoder(t)
	case reflect.Struct:
		return structEncoder(t)
	}
	panic("wire: no JSON form for " + t.String()) // a programming error, found by the first test of a route
}

func listEncoder(t reflect.Type) encoder {
	inner := encoderOf(t.Elem())
	return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
		if v.Kind() == reflect.Slice && v.IsNil() {
			return append(dst, "null"...)
		}
		dst = append(dst, '[')
		for i := range v.Len() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = inner(dst, v.Index(i), leaf)
		}
		return append(dst, ']')
	}
}

func mapEncoder(t reflect.Type) encoder {
	inner := encoderOf(t.Elem())
	return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
		if v.IsNil() {
			return append(dst, "null"...)
		}
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		dst = append(dst, '{')
		for i, k := range keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(AppendString(dst, k.String()), ':')
			dst = inner(dst, v.MapIndex(k), leaf)
		}
		return append(dst, '}')
	}
}

type encoderField struct {
	index []int
	label []byte                     // `"name":`
	omit  func(v reflect.Value) bool // omitempty; nil: never
	plain bool                       // tagged audit:"clear": no secret, shown to audit as it is
	enc   encoder
}

func structEncoder(t reflect.Type) encoder {
	var fields []encoderField
	for _, f := range reflect.VisibleFields(t) {
		name, opts, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || name == "" {
			continue
		}
		ef := encoderField{
			index: f.Index, label: append(AppendString(nil, name), ':'),
			plain: f.Tag.Get("audit") == "clear", enc: encoderOf(f.Type),
		}
		if opts == "omitempty" {
			ef.omit = emptyOf(f.Type)
		}
		fields = append(fields, ef)
	}
	return func(dst []byte, v reflect.Value, leaf Leaf) []byte {
		dst = append(dst, '{')
		start := len(dst)
		for i := range fields {
			f := &fields[i]
			fv, err := v.FieldByIndexErr(f.index)
			if err != nil || f.omit != nil && f.omit(fv) {
				continue
			}
			if len(dst) > start {
				dst = append(dst, ',')
			}
			dst = append(dst, f.label...)
			if f.plain {
				dst = f.enc(dst, fv, nil)
			} else {
				dst = f.enc(dst, fv, leaf)
			}
		}
		return append(dst, '}')
	}
}

// emptyOf returns the function that reports whether a value of a type is empty.
func emptyOf(t reflect.Type) func(v reflect.Value) bool {
	switch t {
	case reflect.TypeFor[secret.Value]():
		return func(v reflect.Value) bool { return held[secret.Value](v).Empty() }
	case reflect.TypeFor[Raw]():
		return func(v reflect.Value) bool { return held[Raw](v).v.Empty() }
	}
	switch t.Kind() {
	case reflect.Slice, reflect.Map:
		return func(v reflect.Value) bool { return v.Len() == 0 }
	case reflect.Interface: // only the value tells what it holds
		return func(v reflect.Value) bool {
			switch held := v.Interface().(type) {
			case secret.Value:
				return held.Empty()
			case Raw:
				return held.v.Empty()
			}
			return v.IsZero()
		}
	}
	return reflect.Value.IsZero
}

func integer(dst []byte, n int64, leaf Leaf) []byte {
	if leaf == nil {
		return strconv.AppendInt(dst, n, 10)
	}
	return leaf(dst, strconv.AppendInt(nil, n, 10))
}

func appendTime(dst []byte, t time.Time, leaf Leaf) []byte {
	switch {
	case leaf != nil:
		return leaf(dst, []byte(FormatTime(t)))
	case t.IsZero():
		return append(dst, '"', '"')
	}
	dst = t.UTC().AppendFormat(append(dst, '"'), time.RFC3339Nano)
	return append(dst, '"')
}

func text(dst, b []byte, leaf Leaf) []byte {
	if leaf != nil {
		return leaf(dst, b)
	}
	return AppendString(dst, string(b))
}

func bare(dst, b []byte, leaf Leaf) []byte {
	if leaf != nil {
		return leaf(dst, b)
	}
	return append(dst, b...)
}

// appendRaw walks checked JSON and hands each leaf on; for the client the
// bytes go out as they came in.
func appendRaw(dst, b []byte, leaf Leaf) []byte {
	if len(b) == 0 {
		return append(dst, "null"...)
	}
	if leaf == nil {
		return append(dst, b...)
	}
	s := scanner{b: b}
	for s.i < len(b) {
		switch c := b[s.i]; {
		case c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':':
			dst = append(dst, c)
			s.i++
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			s.i++
		case c == '"':
			quoted, err := s.str()
			if err != nil {
				return append(dst, "null"...)
			}
			s.space()
			if s.i < len(b) && b[s.i] == ':' { // a key
				dst = append(dst, quoted...)
				continue
			}
			dst = leaf(dst, []byte(unescape(quoted)))
		default:
			from := s.i
			if s.value(1) != nil {
				return append(dst, "null"...)
			}
			if lit := b[from:s.i]; string(lit) == "null" {
				dst = append(dst, "null"...)
			} else {
				dst = leaf(dst, lit)
			}
		}
	}
	return dst
}

// FormatTime is t as Vault writes it; "" for the zero time.
func FormatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
