package wire

import (
	"fmt"
	"reflect"
	"strconv"

	"github.com/keyturn/keyturn/internal/secret"
)

// Limits of one field of a request, unless its tag sets another: json:"paths" max:"10000". They
// limit what a handler processes; [Limits] limit the whole body. Types that decode themselves, and
// [Raw], have their own limits.
const (
	MaxFieldBytes = 256 << 10 // of a text, and of each text of a list or map
	MaxElements   = 1000      // of a list or map
)

// A fieldLimit is that of one field: bytes of a text, or elements of a list or map.
type fieldLimit struct{ bytes, elements int }

// limitOf reads a field's tag. A tag that is no number is a mistake of ours, found by the first
// request to the route.
func limitOf(f reflect.StructField) fieldLimit {
	l := fieldLimit{MaxFieldBytes, MaxElements}
	tag, ok := f.Tag.Lookup("max")
	if !ok {
		return l
	}
	n, err := strconv.Atoi(tag)
	if err != nil || n < 1 {
		panic("wire: field " + f.Name + ": the tag max is no number")
	}
	t := f.Type
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		l.elements = n
	} else {
		l.bytes = n
	}
	return l
}

// within returns a setter that refuses values above a limit.
func within(set setter, l fieldLimit) setter {
	return func(v reflect.Value, text []byte) string {
		if why := set(v, text); why != "" {
			return why
		}
		return l.exceeded(v)
	}
}

// exceeded returns how a value exceeds its limit, or "".
func (l fieldLimit) exceeded(v reflect.Value) string {
	for v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return ""
		}
		v = v.Elem()
	}
	size := -1
	switch v.Kind() {
	case reflect.String:
		size = v.Len()
	case reflect.Slice, reflect.Map:
		if n := v.Len(); n > l.elements {
			return fmt.Sprintf("it has %d elements, and may have %d", n, l.elements)
		}
		return l.elementsExceeded(v)
	case reflect.Struct:
		if x, ok := v.Interface().(secret.Value); ok {
			size = x.Len()
		}
	}
	if size > l.bytes {
		return fmt.Sprintf("it has %d bytes, and may have %d", size, l.bytes)
	}
	return ""
}

func (l fieldLimit) elementsExceeded(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		for i := range v.Len() {
			if why := l.exceeded(v.Index(i)); why != "" {
				return why
			}
		}
		return ""
	}
	for it := v.MapRange(); it.Next(); {
		for _, part := range []reflect.Value{it.Key(), it.Value()} {
			if why := l.exceeded(part); why != "" {
				return why
			}
		}
	}
	return ""
}

// A setter stores JSON text in a field. It returns why it cannot, or "".
type setter func(v reflect.Value, text []byte) (why string)
