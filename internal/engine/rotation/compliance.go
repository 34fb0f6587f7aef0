package rotation

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/route"
)

type complianceIn struct {
	After     string `json:"after" doc:"Begin after the page that gave this value as next."`
	Limit     int    `json:"limit" default:"100" doc:"How many secrets to return at most; 1000 at most."`
	Untracked bool   `json:"untracked" default:"false" doc:"List the secrets that have no rotated_at, next_rotation, rotation_period or class instead."`
}

// compliance lists the secrets of the server whose rotation is late.
func (o overview) compliance(ctx context.Context, req *route.Request, in complianceIn) (*engine.Compliance, error) {
	out, err := o.m.Host.Compliance(ctx, engine.ComplianceQuery{
		Policies: req.Caller.Policies, After: in.After, Limit: in.Limit, Untracked: in.Untracked,
	})
	if err == nil && len(out.Indexing) > 0 {
		req.Warn("secrets that an earlier version has written are still being indexed, so some may be missing: %s",
			strings.Join(out.Indexing, ", "))
	}
	return out, err
}
