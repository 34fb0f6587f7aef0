package route

import (
	"reflect"
	"sync"

	"github.com/keyturn/keyturn/internal/secret"
)

type pathField struct {
	name   string
	index  []int
	secret bool
}

var pathFieldCache sync.Map // reflect.Type → []pathField

func pathFields(t reflect.Type) []pathField {
	if c, ok := pathFieldCache.Load(t); ok {
		return c.([]pathField)
	}
	var out []pathField
	for _, f := range reflect.VisibleFields(t) {
		if name := f.Tag.Get("path"); name != "" {
			out = append(out, pathField{name, f.Index, f.Type == reflect.TypeFor[secret.Value]()})
		}
	}
	pathFieldCache.Store(t, out)
	return out
}
