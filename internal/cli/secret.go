package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// A pair is one row of a table of keys and values, and what -field prints of
// it where that differs.
type pair struct {
	key  string
	show any // in the table
	raw  any // for -field; nil: the same
}

// pairsOf lays an answer out in rows: the wrapping alone where it is wrapped,
// else its lease, its login and its data.
func pairsOf(sec *api.Secret) []pair {
	if sec.WrapInfo != nil {
		return wrapPairs(sec.WrapInfo)
	}
	var rows []pair
	if sec.LeaseDuration > 0 {
		lasts := human(int64(sec.LeaseDuration))
		if sec.LeaseID != "" {
			rows = append(rows, pair{"lease_id", sec.LeaseID, nil},
				pair{"lease_duration", lasts, sec.LeaseDuration},
				pair{"lease_renewable", sec.Renewable, nil})
		} else {
			rows = append(rows, pair{"refresh_interval", lasts, sec.LeaseDuration})
		}
	}
	if sec.Auth != nil {
		rows = append(rows, authPairs(sec.Auth)...)
	}
	return append(rows, dataPairs(sec.Data)...)
}

func wrapPairs(w *api.SecretWrapInfo) []pair {
	rows := []pair{
		{"wrapping_token:", w.Token, nil},
		{"wrapping_accessor:", w.Accessor, nil},
		{"wrapping_token_ttl:", human(int64(w.TTL)), w.TTL},
		{"wrapping_token_creation_time:", w.CreationTime.String(), nil},
		{"wrapping_token_creation_path:", w.CreationPath, nil},
	}
	if w.WrappedAccessor != "" {
		rows = append(rows, pair{"wrapped_accessor:", w.WrappedAccessor, nil})
	}
	return rows
}

func authPairs(a *api.SecretAuth) []pair {
	lasts := "∞"
	if a.LeaseDuration > 0 {
		lasts = human(int64(a.LeaseDuration))
	}
	rows := []pair{
		{"token", a.ClientToken, nil},
		{"token_accessor", a.Accessor, nil},
		{"token_duration", lasts, a.LeaseDuration},
		{"token_renewable", a.Renewable, nil},
		{"token_policies", fmt.Sprintf("%q", a.TokenPolicies), a.TokenPolicies},
		{"identity_policies", fmt.Sprintf("%q", a.IdentityPolicies), a.IdentityPolicies},
		{"policies", fmt.Sprintf("%q", a.Policies), a.Policies},
	}
	for _, key := range sortedKeys(a.Metadata) {
		rows = append(rows, pair{"token_meta_" + key, a.Metadata[key], nil})
	}
	return rows
}

// dataPairs are the fields of data in order. Numbers that are seconds by their
// name are shown as durations.
func dataPairs(data map[string]any) []pair {
	var rows []pair
	for _, key := range sortedKeys(data) {
		p := pair{key, data[key], data[key]}
		if number, ok := data[key].(json.Number); ok && isDuration(key) {
			if seconds, err := number.Int64(); err == nil {
				p.show = human(seconds)
			}
		}
		rows = append(rows, p)
	}
	return rows
}

func pairTable(rows []pair) string {
	cells := make([][]string, len(rows))
	for i, p := range rows {
		cells[i] = []string{p.key, cell(p.show)}
	}
	return table([]string{"Key", "Value"}, cells)
}

// cell is a value as a table shows it.
func cell(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	return fmt.Sprint(v)
}

// isDuration reports whether a field of this name holds seconds.
func isDuration(key string) bool {
	switch key {
	case "ttl", "period", "duration", "lease_max", "ttl_max", "max_hold":
		return true
	}
	return slices.ContainsFunc([]string{"_ttl", "_period", "_duration", "_window"}, func(end string) bool {
		return strings.HasSuffix(key, end)
	})
}

// human is a number of seconds without the units that are zero at its end: 30m,
// 1h, 767h59m.
func human(seconds int64) string {
	if seconds > int64(1<<63-1)/int64(time.Second) {
		return strconv.FormatInt(seconds, 10) + "s"
	}
	text := (time.Duration(seconds) * time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}
