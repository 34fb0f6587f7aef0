package rotate

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// list returns all credentials that the provider shows.
func list(ctx context.Context, e *Edit) (all []Listed, err error) {
	err = call(ctx, func(ctx context.Context) (err error) {
		all, err = e.target.(Lister).List(ctx)
		return err
	})
	e.Now = time.Now().UTC()
	return all, err
}

// listIDs returns the IDs of all credentials that the provider shows.
func listIDs(ctx context.Context, e *Edit) (out []string, err error) {
	all, err := list(ctx, e)
	for _, l := range all {
		out = append(out, l.ID)
	}
	if len(out) > maxBefore {
		return nil, &Failure{Outcome: Permanent,
			Err: fault.New("rotate.listIDs", fault.TooLarge, "the provider lists %d keys without labels, more than "+
				"can be told apart; delete at the provider those that nobody uses", len(out))}
	}
	return out, err
}

// lastUsed asks the provider when a key was last used.
func lastUsed(ctx context.Context, e *Edit, id string) (used time.Time, err error) {
	err = call(ctx, func(ctx context.Context) (err error) {
		used, err = e.target.(UsageReporter).LastUsed(ctx, id)
		return err
	})
	e.Now = time.Now().UTC()
	return used, err
}
