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

// auditedHeaders are the request headers that the operator chose to audit. They are re-read at
// most once a second, so that every server of a store notices a change.
type auditedHeaders struct {
	view    *barrier.View
	current atomic.Pointer[headerRules]
}

type headerRules struct {
	at    time.Time
	rules map[string]node.HeaderRule
}

// forRequest returns the audited headers of a request.
func (a *auditedHeaders) forRequest(
	ctx context.Context, headers map[string][]string, now time.Time,
) ([]audit.Header, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	current := a.current.Load()
	if current == nil || now.Sub(current.at) >= time.Second || now.Before(current.at) {
		rules, err := node.AuditedHeader.Read(ctx, a.view)
		if err != nil {
			return nil, err
		}
		current = &headerRules{at: now, rules: rules}
		a.current.Store(current)
	}
	var out []audit.Header
	for name, rule := range current.rules {
		for sent, values := range headers {
			if strings.EqualFold(sent, name) {
				out = append(out, audit.Header{Name: strings.ToLower(name), Values: values, Hash: rule.HMAC})
			}
		}
	}
	slices.SortFunc(out, func(a, b audit.Header) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}
