package conformance

import (
	"regexp"
	"strings"
)

var (
	timeForm     = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)
	uuidForm     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	leaseForm    = regexp.MustCompile(`^((?:[\w.-]+/)+)[A-Za-z0-9]{20,}(\.[A-Za-z0-9]+)?$`)
	tokenForm    = regexp.MustCompile(`^((hv)?[sbr]\.)[A-Za-z0-9_-]{20,}$`)
	randomForm   = regexp.MustCompile(`^[A-Za-z0-9_-]{20,}$`)
	accessorForm = regexp.MustCompile(`^([a-z0-9_-]+)_[0-9a-f]{8}$`)
)

// normal replaces values that differ from run to run by a marker of their form, and values of
// variables by their names.
func (s *Session) normal(x any) any {
	names := map[string]string{}
	for k, v := range s.Vars {
		if len(v) > 5 {
			names[v] = "<" + k + ">"
		}
	}
	return normal(x, names, "")
}

func normal(x any, names map[string]string, key string) any {
	switch t := x.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range t {
			as := k
			if name, ok := names[k]; ok {
				as = name
			} else if uuidForm.MatchString(k) {
				as = "<uuid>"
			}
			out[as] = normal(v, names, k)
		}
		return out
	case []any:
		out := make([]any, len(t))
		for i, v := range t {
			out[i] = normal(v, names, key)
		}
		return out
	case float64:
		return normalNumber(t, key)
	case string:
		return normalText(t, names, key)
	}
	return x
}

func normalNumber(n float64, key string) any {
	switch key {
	case "creation_time", "server_time_utc", "expiration_time", "timestamp", "last_renewal_time":
		if n > 1e9 {
			return "<unix time>"
		}
	case "ttl", "lease_duration", "creation_ttl":
		// These values decrease while the suite runs.
		if n > 30 && int64(n)%10 != 0 {
			return float64((int64(n) + 9) / 10 * 10)
		}
	}
	return n
}

func normalText(text string, names map[string]string, key string) any {
	if name, ok := names[text]; ok {
		return name
	}
	switch {
	case text == "":
		return text
	case timeForm.MatchString(text):
		return "<time>"
	case uuidForm.MatchString(text):
		return "<uuid>"
	case tokenForm.MatchString(text):
		return "<token>"
	case strings.Contains(key, "accessor") && accessorForm.MatchString(text):
		return accessorForm.FindStringSubmatch(text)[1] + "_<hex>"
	case key == "accessor", key == "password", key == "secret_id", key == "secret_id_accessor", key == "client_token":
		return "<random>"
	case leaseForm.MatchString(text):
		return leaseForm.FindStringSubmatch(text)[1] + "<random>"
	case randomForm.MatchString(text) && (key == "keys" || strings.ContainsAny(text, "0123456789")) &&
		strings.ToLower(text) != text:
		return "<random>"
	}
	for v, name := range names {
		text = strings.ReplaceAll(text, v, name)
	}
	return text
}
