package rotate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A lineage says which rotation of a record made, published or retired a credential. A lineage
// reads the rotations once, so it must not outlive the Edit.
type lineage struct {
	e     *Edit
	turns []*Turn
}

// rotations returns the stored rotations of the record and the one in flight, the newest first.
func (l *lineage) rotations(ctx context.Context) ([]*Turn, error) {
	if l.turns != nil {
		return l.turns, nil
	}
	all, err := l.e.m.rotations(ctx, l.e)
	if err == nil {
		l.turns = all
	}
	return all, err
}

// A making is the rotation that made a credential.
type making struct {
	n   uint32
	ref *Ref
}

// published returns the credential that a publication of this record published, or nil.
func (l *lineage) published(ctx context.Context, publication string) (*making, error) {
	rest, ours := strings.CutPrefix(publication, l.e.Rec.Tag+"/")
	if !ours {
		return nil, nil
	}
	all, err := l.rotations(ctx)
	if err != nil {
		return nil, err
	}
	number, more, _ := strings.Cut(rest, "/")
	for _, t := range all {
		switch {
		case fmt.Sprint(t.N) != number:
		case strings.HasPrefix(more, "back"):
			return maker(all, t.Old), nil
		default:
			return &making{t.N, t.New}, nil
		}
	}
	return nil, nil
}

// maker returns the rotation that made a credential, or nil if none is recorded.
func maker(all []*Turn, c *Ref) *making {
	for _, t := range all {
		if c != nil && t.New.Key() == c.Key() {
			return &making{t.N, t.New}
		}
	}
	return nil
}

// called names a credential for people, by its rotation and its ID.
func (l *lineage) called(ctx context.Context, c *Ref) string {
	all, err := l.rotations(ctx)
	if made := maker(all, c); err == nil && made != nil {
		return fmt.Sprintf("the key of rotation %d (%s)", made.n, c.Key())
	}
	return "the key " + c.Key()
}

// leaked reports whether a credential was reported as leaked.
func (l *lineage) leaked(ctx context.Context, c *Ref) (bool, error) {
	all, err := l.rotations(ctx)
	return c.hasLeaked() || slices.ContainsFunc(all, func(t *Turn) bool {
		return t.Old.Key() == c.Key() && t.Old.hasLeaked() || t.New.Key() == c.Key() && t.New.hasLeaked()
	}), err
}

// retired returns when a credential was retired; zero if that is not known.
func (l *lineage) retired(ctx context.Context, c *Ref) (time.Time, error) {
	all, err := l.rotations(ctx)
	for _, t := range all {
		if c != nil && t.Victim().Key() == c.Key() && !t.End.Retired.IsZero() {
			return t.End.Retired, err
		}
	}
	return time.Time{}, err
}
