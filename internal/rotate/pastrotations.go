package rotate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A pastRotations says which rotation of a record made, published or retired a credential. A
// pastRotations reads the rotations once, so it must not outlive the Edit.
type pastRotations struct {
	e     *Edit
	turns []*Turn
}

// load returns the stored rotations of the record and the one in flight, the newest first.
func (l *pastRotations) load(ctx context.Context) ([]*Turn, error) {
	if l.turns != nil {
		return l.turns, nil
	}
	all, err := l.e.m.rotations(ctx, l.e)
	if err == nil {
		l.turns = all
	}
	return all, err
}

// An origin is the rotation that made a credential.
type origin struct {
	n   uint32
	ref *Ref
}

// ofPublication returns the credential that a publication of this record published, or nil.
func (l *pastRotations) ofPublication(ctx context.Context, publication string) (*origin, error) {
	rest, ours := strings.CutPrefix(publication, l.e.Rec.Tag+"/")
	if !ours {
		return nil, nil
	}
	all, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	number, more, _ := strings.Cut(rest, "/")
	for _, t := range all {
		switch {
		case fmt.Sprint(t.N) != number:
		case strings.HasPrefix(more, "back"):
			return originOf(all, t.Old), nil
		default:
			return &origin{t.N, t.New}, nil
		}
	}
	return nil, nil
}

// originOf returns the rotation that made a credential, or nil if none is recorded.
func originOf(all []*Turn, c *Ref) *origin {
	for _, t := range all {
		if c != nil && t.New.Key() == c.Key() {
			return &origin{t.N, t.New}
		}
	}
	return nil
}

// describe names a credential for people, by its rotation and its ID.
func (l *pastRotations) describe(ctx context.Context, c *Ref) string {
	all, err := l.load(ctx)
	if made := originOf(all, c); err == nil && made != nil {
		return fmt.Sprintf("the key of rotation %d (%s)", made.n, c.Key())
	}
	return "the key " + c.Key()
}

// leaked reports whether a credential was reported as leaked.
func (l *pastRotations) leaked(ctx context.Context, c *Ref) (bool, error) {
	all, err := l.load(ctx)
	return c.hasLeaked() || slices.ContainsFunc(all, func(t *Turn) bool {
		return t.Old.Key() == c.Key() && t.Old.hasLeaked() || t.New.Key() == c.Key() && t.New.hasLeaked()
	}), err
}

// retiredAt returns when a credential was retired; zero if that is not known.
func (l *pastRotations) retiredAt(ctx context.Context, c *Ref) (time.Time, error) {
	all, err := l.load(ctx)
	for _, t := range all {
		if c != nil && t.Victim().Key() == c.Key() && !t.End.Retired.IsZero() {
			return t.End.Retired, err
		}
	}
	return time.Time{}, err
}
