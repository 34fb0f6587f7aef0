package core

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/audit"
	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/node"
)

// auditedHeaders are the request headers that the operator chose to audit. They are read again once a second, so that
// every server over one store follows a change.
type auditedHeaders struct {
	view *barrier.View
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
		rules, err := node.AuditedHeader.Read(ctx, a.view)
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
