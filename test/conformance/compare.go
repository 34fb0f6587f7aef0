package conformance

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// neverCompared are fields about the build or host, not the behaviour of the API.
var neverCompared = []string{
	"request_id", "warnings", "errors", "mount_type", "data.mount_type", "wrap_info.wrapped_accessor",
	"auth.mfa_requirement",
	"data.*.running_plugin_version", "data.*.running_sha256", "data.*.plugin_version", "data.*.deprecation_status",
	"data.running_plugin_version", "data.running_sha256", "data.plugin_version", "data.deprecation_status",
	"data.*.external_entropy_access", "data.external_entropy_access", "data.*.config.listing_visibility",
}

// compare returns the differences between an answer and that of the reference.
func compare(st *Step, got *Answer) []string {
	if st.Want.Status != got.Status {
		return []string{fmt.Sprintf("status: want %d, got %d %s", st.Want.Status, got.Status, short(got.Body))}
	}
	if st.StatusOnly {
		return nil
	}
	want, have := clone(st.Want.Body), clone(got.Body)
	if st.Want.Status >= 400 {
		_, wanted := lookup(want, "errors").([]any)
		_, has := lookup(have, "errors").([]any)
		if wanted && !has {
			return []string{`an error has the form {"errors": [text, …]}, got ` + short(have)}
		}
		return nil
	}
	for _, path := range slices.Concat(neverCompared, st.Ignore) {
		drop(want, strings.Split(path, "."))
		drop(have, strings.Split(path, "."))
	}
	var found []string
	if len(st.Only) == 0 {
		walk("", want, have, &found)
	}
	for _, path := range st.Only {
		walk(path, lookup(want, path), lookup(have, path), &found)
	}
	return found
}

func clone(x any) any {
	b, err := json.Marshal(x)
	if err != nil {
		return nil // it was decoded from JSON
	}
	var y any
	_ = json.Unmarshal(b, &y)
	return y
}

// drop removes a field; * stands for all fields of an object.
func drop(x any, path []string) {
	m, ok := x.(map[string]any)
	if !ok || len(path) == 0 {
		return
	}
	for k := range m {
		if path[0] != "*" && path[0] != k {
			continue
		}
		if len(path) == 1 {
			delete(m, k)
		} else {
			drop(m[k], path[1:])
		}
	}
}

func walk(at string, want, got any, found *[]string) {
	fields, ok := want.(map[string]any)
	if !ok {
		if !reflect.DeepEqual(want, got) && !stands(want, got) {
			*found = append(*found, fmt.Sprintf("%s: want %s, got %s", at, short(want), short(got)))
		}
		return
	}
	has, ok := got.(map[string]any)
	if !ok {
		*found = append(*found, fmt.Sprintf("%s: want an object %s, got %s", at, short(want), short(got)))
		return
	}
	for _, k := range slices.Sorted(maps.Keys(fields)) {
		v, ok := has[k]
		if !ok {
			*found = append(*found, fmt.Sprintf("%s.%s: missing, want %s", at, k, short(fields[k])))
			continue
		}
		walk(at+"."+k, fields[k], v, found)
	}
}

// stands reports whether want is a marker for any text.
func stands(want, got any) bool {
	text, ok := got.(string)
	return ok && text != "" && (want == "<random>" || want == "<token>" || want == "<text>")
}

func short(x any) string {
	b, _ := json.Marshal(x)
	if len(b) > 160 {
		return string(b[:160]) + "…"
	}
	return string(b)
}
