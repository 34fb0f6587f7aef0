package core

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/token"
)

// versionPrefix is followed by a version of Keyturn that has served this store.
const versionPrefix = "core/version/"

type versionRow struct {
	Since time.Time `json:"since"`
}

// recordVersion notes that this version serves the store, the first time that it does.
func (h ledger) recordVersion(ctx context.Context) error {
	version := h.cfg.Server.Version
	if version == "" {
		return nil
	}
	row, err := h.view.Get(ctx, versionPrefix+version)
	if err != nil || row.Version != 0 {
		return err
	}
	b, err := json.Marshal(versionRow{Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return fault.Wrap("core.recordVersion", fault.Internal, err)
	}
	_, err = h.view.Commit(ctx, storage.Set(versionPrefix+version, b))
	return err
}

// versions lists the versions that have served this store, oldest first.
func (h ledger) versions(ctx context.Context) ([]node.InstalledVersion, error) {
	var all []node.InstalledVersion
	for row, err := range h.view.Scan(ctx, versionPrefix, storage.PrefixEnd(versionPrefix)) {
		if err != nil {
			return nil, err
		}
		var v versionRow
		if err := json.Unmarshal(row.Value, &v); err != nil {
			return nil, fault.Wrap("core.versions", fault.Internal, err)
		}
		all = append(all, node.InstalledVersion{Version: strings.TrimPrefix(row.Key, versionPrefix), Since: v.Since})
	}
	slices.SortStableFunc(all, func(a, b node.InstalledVersion) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Version, b.Version))
	})
	return all, nil
}

// countTokens counts the rows of service tokens, without decrypting them.
func (h ledger) countTokens(ctx context.Context) (count int64, err error) {
	for _, err := range h.cfg.Store.Scan(ctx, token.Prefix, storage.PrefixEnd(token.Prefix)) {
		if err != nil {
			return 0, err
		}
		count++
	}
	return count, nil
}

// CORS returns which web pages of other origins may call; while sealed, none.
func (c *Core) CORS(ctx context.Context) (node.CORS, error) {
	h := c.house.Load()
	if h == nil {
		return node.CORS{}, nil
	}
	return node.CORSSetting.Read(ctx, h.view)
}

// UIHeaders returns the headers that answers below /ui carry; while sealed, none.
func (c *Core) UIHeaders(ctx context.Context) (map[string][]string, error) {
	h := c.house.Load()
	if h == nil {
		return nil, nil
	}
	return node.UIHeaders.Read(ctx, h.view)
}

// auditedHeaders are the request headers that the operator chose to audit. They are read again once a second, so that
// every server over one store follows a change.
type auditedHeaders struct {
	read func(ctx context.Context) (map[string]node.HeaderRule, error)
	last atomic.Pointer[headerRules]
}

type headerRules struct {
	at    time.Time
	rules map[string]node.HeaderRule
}

// of returns those of a request's headers that are audited.
func (a *auditedHeaders) of(ctx context.Context, headers map[string][]string, now time.Time) ([]audit.Header, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	got := a.last.Load()
	if got == nil || now.Sub(got.at) >= time.Second || now.Before(got.at) {
		rules, err := a.read(ctx)
		if err != nil {
			return nil, err
		}
		got = &headerRules{at: now, rules: rules}
		a.last.Store(got)
	}
	var out []audit.Header
	for name, rule := range got.rules {
		for sent, values := range headers {
			if strings.EqualFold(sent, name) {
				out = append(out, audit.Header{Name: strings.ToLower(name), Values: values, Hash: rule.HMAC})
			}
		}
	}
	slices.SortFunc(out, func(a, b audit.Header) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
