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

// A pair is one row of a table of keys and values.
type pair struct {
	key  string
	show any // in the table
	raw  any // for -field, if it differs from show
}

// pairsOf returns the rows of an answer: only the wrapping of a wrapped answer; otherwise its
// lease, its token and its data.
func pairsOf(sec *api.Secret) []pair {
	if sec.WrapInfo != nil {
		return wrapPairs(sec.WrapInfo)
	}
	var rows []pair
	if sec.LeaseDuration > 0 {
		lasts := humanDuration(int64(sec.LeaseDuration))
		if sec.LeaseID != "" {
			rows = append(rows, pair{key: "lease_id", show: sec.LeaseID},
				pair{key: "lease_duration", show: lasts, raw: sec.LeaseDuration},
				pair{key: "lease_renewable", show: sec.Renewable})
		} else {
			rows = append(rows, pair{key: "refresh_interval", show: lasts, raw: sec.LeaseDuration})
		}
	}
	if sec.Auth != nil {
		rows = append(rows, authPairs(sec.Auth)...)
	}
	return append(rows, dataPairs(sec.Data)...)
}

func wrapPairs(w *api.SecretWrapInfo) []pair {
	rows := []pair{
		{key: "wrapping_token:", show: w.Token},
		{key: "wrapping_accessor:", show: w.Accessor},
		{key: "wrapping_token_ttl:", show: humanDuration(int64(w.TTL)), raw: w.TTL},
		{key: "wrapping_token_creation_time:", show: w.CreationTime.String()},
		{key: "wrapping_token_creation_path:", show: w.CreationPath},
	}
	if w.WrappedAccessor != "" {
		rows = append(rows, pair{key: "wrapped_accessor:", show: w.WrappedAccessor})
	}
	return rows
}

func authPairs(a *api.SecretAuth) []pair {
	lasts := "∞"
	if a.LeaseDuration > 0 {
		lasts = humanDuration(int64(a.LeaseDuration))
	}
	rows := []pair{
		{key: "token", show: a.ClientToken},
		{key: "token_accessor", show: a.Accessor},
		{key: "token_duration", show: lasts, raw: a.LeaseDuration},
		{key: "token_renewable", show: a.Renewable},
		{key: "token_policies", show: fmt.Sprintf("%q", a.TokenPolicies), raw: a.TokenPolicies},
		{key: "identity_policies", show: fmt.Sprintf("%q", a.IdentityPolicies), raw: a.IdentityPolicies},
		{key: "policies", show: fmt.Sprintf("%q", a.Policies), raw: a.Policies},
	}
	for _, key := range sortedKeys(a.Metadata) {
		rows = append(rows, pair{key: "token_meta_" + key, show: a.Metadata[key]})
	}
	return rows
}

// dataPairs returns the fields of data, sorted. Numbers whose name says that they are seconds are
// shown as durations.
func dataPairs(data map[string]any) []pair {
	var rows []pair
	for _, key := range sortedKeys(data) {
		p := pair{key: key, show: data[key], raw: data[key]}
		if number, ok := data[key].(json.Number); ok && isDuration(key) {
			if seconds, err := number.Int64(); err == nil {
				p.show = humanDuration(seconds)
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

// cell returns a value as a table shows it.
func cell(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	return fmt.Sprint(v)
}

// isDuration reports whether a field of this name is a number of seconds.
func isDuration(key string) bool {
	switch key {
	case "ttl", "period", "duration", "lease_max", "ttl_max", "max_hold":
		return true
	}
	return slices.ContainsFunc([]string{"_ttl", "_period", "_duration", "_window"}, func(end string) bool {
		return strings.HasSuffix(key, end)
	})
}

// humanDuration formats seconds without trailing units that are zero: 30m, 1h, 767h59m.
func humanDuration(seconds int64) string {
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
