package wire

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// A Form says how [Decode] reads the members of a JSON object, for policies, which must judge them
// before: in which spelling, as a list or as one text, under which other names. It is made of the
// same tags and types as the decoder, so that the two cannot differ. A nil Form knows no member.
// It is immutable.
//
//	json:"ttl" alias:"lease"    lease is another name of ttl: [Form.Rename] makes ttl of it
//	json:"arn" also:"a,b"       arn sets what a or b do: who denies one of these denies arn
//	json:"tags" shape:"list"    a type that reads itself takes texts apart at their commas
//	json:"kind" means:"v1=kv"   the value v1 does what kv does: who denies kv denies v1
type Form struct {
	alias   map[string]string   // other name → name
	also    map[string][]string // name → the names under which it is judged, too
	members map[string]member
	means   map[string]map[string]string // name → value → the value under which it is judged, too
}

type member struct {
	shape Shape
	kind  Kind
	canon func(string) string // nil: texts are taken as they are
}

// Shape is how a member's value is read.
type Shape uint8

// The shapes. What is neither is read in ways of its own.
const (
	Other  Shape = iota
	Scalar       // one text, number, boolean or duration: commas are part of it
	List         // an array of these, or one text that is taken apart at its commas
)

// Kind is what a member's texts, or those of its list, are read as.
type Kind uint8

// The kinds.
const (
	KindUnknown Kind = iota // its type reads itself, or there is no such member
	KindText
	KindBool
	KindNumber
	KindDuration // of Go, a [TTL] or a [Lifetime]
)

var forms sync.Map // reflect.Type → *Form

// FormOf is the form of a struct type; nil for any other type.
func FormOf(t reflect.Type) *Form {
	if t.Kind() != reflect.Struct {
		return nil
	}
	if f, ok := forms.Load(t); ok {
		return f.(*Form)
	}
	f := &Form{
		alias: map[string]string{}, also: map[string][]string{}, members: map[string]member{},
		means: map[string]map[string]string{},
	}
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || name == "-" || !field.IsExported() {
			continue
		}
		if f.members[name] = memberOf(field.Type); field.Tag.Get("shape") == "list" {
			f.members[name] = member{shape: List, kind: f.members[name].kind}
		}
		for _, other := range words(field.Tag.Get("alias")) {
			f.alias[other] = name
		}
		for _, other := range words(field.Tag.Get("also")) {
			f.also[name] = append(f.also[name], other)
		}
		for _, pair := range words(field.Tag.Get("means")) {
			if f.means[name] == nil {
				f.means[name] = map[string]string{}
			}
			value, other, _ := strings.Cut(pair, "=")
			f.means[name][value] = other
		}
	}
	forms.Store(t, f)
	return f
}

func words(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

func memberOf(t reflect.Type) member {
	if t.Kind() == reflect.Pointer {
		return memberOf(t.Elem())
	}
	switch t {
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[TTL](), reflect.TypeFor[Lifetime]():
		return member{shape: Scalar, kind: KindDuration}
	case reflect.TypeFor[secret.Value](), reflect.TypeFor[time.Time]():
		return member{shape: Scalar, kind: KindText}
	}
	switch t.Kind() {
	case reflect.Slice:
		if m := memberOf(t.Elem()); m.shape == Scalar {
			m.shape = List
			return m
		}
	case reflect.String:
		if t.Implements(reflect.TypeFor[canonical]()) {
			return member{Scalar, KindText, func(s string) string {
				return reflect.ValueOf(s).Convert(t).Interface().(canonical).Canonical()
			}}
		}
		return member{shape: Scalar, kind: KindText}
	case reflect.Bool:
		return member{shape: Scalar, kind: KindBool}
	case reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		return member{shape: Scalar, kind: KindNumber}
	}
	return member{}
}

// Rename returns the body with each member under its first name. Two names of one member are
// refused, unless one of them is empty or both are equal.
func (f *Form) Rename(body []byte) ([]byte, error) {
	if f == nil || len(f.alias) == 0 || len(body) == 0 {
		return body, nil
	}
	has := false
	if err := EachField(body, func(name string, _ []byte) error {
		has = has || f.alias[name] != ""
		return nil
	}); err != nil || !has {
		return body, err
	}
	var names []string // in their order
	values := map[string][]byte{}
	err := EachField(body, func(name string, value []byte) error {
		name = f.First(name)
		switch old, twice := values[name]; {
		case !twice:
			names = append(names, name)
			values[name] = value
		case saysNothing(old):
			values[name] = value
		case !saysNothing(value) && !bytes.Equal(old, value):
			return fault.New("wire.Rename", fault.Invalid,
				"field %q: it is there twice, under two of its names; send one of them", name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(body)+32), '{')
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(AppendString(out, name), ':'), values[name]...)
	}
	return append(out, '}'), nil
}

func saysNothing(value []byte) bool { return string(value) == "null" || string(value) == `""` }

// Names are a member's names, its first one before the others.
func (f *Form) Names(name string) []string {
	all := []string{name}
	if f == nil {
		return all
	}
	for _, other := range slices.Sorted(maps.Keys(f.alias)) {
		if f.alias[other] == name {
			all = append(all, other)
		}
	}
	return all
}

// Also returns the names of other members whose effect this one has, too.
func (f *Form) Also(name string) []string {
	if f == nil {
		return nil
	}
	return f.also[name]
}

// Means returns the other value of a member with the same effect as text; ok is false if there is
// none.
func (f *Form) Means(name, text string) (other string, ok bool) {
	if f == nil {
		return "", false
	}
	other, ok = f.means[name][text]
	return other, ok
}

// First is the name that [Form.Rename] gives a member.
func (f *Form) First(name string) string {
	if f != nil && f.alias[name] != "" {
		return f.alias[name]
	}
	return name
}

// Shape is how a member is read.
func (f *Form) Shape(name string) Shape {
	if f == nil {
		return Other
	}
	return f.members[name].shape
}

// Kind is what a member's texts are read as.
func (f *Form) Kind(name string) Kind {
	if f == nil {
		return KindUnknown
	}
	return f.members[name].kind
}

// Spell returns the canonical form of a member's text.
func (f *Form) Spell(name, text string) string {
	if f == nil || f.members[name].canon == nil {
		return text
	}
	return f.members[name].canon(text)
}
