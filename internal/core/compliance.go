package core

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/mounts"
	"github.com/keyturn/keyturn/internal/core/policies"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/route"
)

// compliance lists the secrets of all mounts whose rotation is late.
type compliance struct {
	barrier  *barrier.Barrier
	mounts   *mounts.Manager
	policies *policies.Manager
	rotating func(ctx context.Context, names []string) iter.Seq2[engine.Rotating, error]
}

// Limits of one page. Secrets that the caller may not see count, too.
const (
	defaultPage = 100
	maxPage     = 1000
	maxRows     = 10_000 // rows that are read for a page
	maxCounted  = 5000   // secrets that are read to count the untracked ones
)

// page returns one page of what the caller may see.
func (c *compliance) page(ctx context.Context, q engine.ComplianceQuery) (*engine.Compliance, error) {
	out := &engine.Compliance{Secrets: []engine.LateSecret{}, Indexing: []string{}}
	if q.Limit <= 0 {
		q.Limit = defaultPage
	}
	q.Limit = min(q.Limit, maxPage)
	after, err := openCursor(c.barrier, q.After)
	if err != nil {
		return nil, err
	}
	var end *spot
	if q.Untracked {
		end, err = c.untracked(ctx, q, after.Path, maxRows, func(s engine.LateSecret) {
			out.Secrets = append(out.Secrets, s)
		})
	} else {
		end, err = c.late(ctx, q, after, out)
	}
	if err != nil {
		return nil, err
	}
	if end != nil {
		if out.Next, err = end.cursor(c.barrier); err != nil {
			return nil, err
		}
	}
	for _, o := range c.mounts.Snapshot().Aged() {
		if o.Aged.Indexing() {
			out.Indexing = append(out.Indexing, o.Entry().Path)
		}
	}
	if q.Untracked || q.After != "" {
		return out, nil
	}
	q.Limit = maxCounted
	end, err = c.untracked(ctx, q, "", maxCounted, func(engine.LateSecret) { out.Untracked++ })
	out.UntrackedMore = end != nil
	return out, err
}

// A listed secret is at a spot of the list. The caller sees it if the policies allow to read one
// of the paths in reads.
type listed struct {
	spot   spot
	secret engine.LateSecret
	reads  []string
}

// late adds what is after a spot to a page, and returns the spot where the page ends; nil: at the
// end of the list.
func (c *compliance) late(
	ctx context.Context, q engine.ComplianceQuery, after spot, out *engine.Compliance,
) (*spot, error) {
	now := time.Now()
	records, err := c.records(ctx, q.Policies, after, now)
	if err != nil {
		return nil, err
	}
	sources := []iter.Seq2[listed, error]{records}
	for _, o := range c.mounts.Snapshot().Aged() {
		sources = append(sources, agesOf(ctx, o, after, now))
	}
	end, rows := after, 0
	for l, err := range merge(sources) {
		if err != nil {
			return nil, err
		}
		if rows++; rows > maxRows {
			return &end, nil
		}
		visible, err := c.mayRead(ctx, q.Policies, l.reads)
		if err != nil {
			return nil, err
		}
		if visible {
			if len(out.Secrets) == q.Limit {
				return &end, nil
			}
			out.Secrets = append(out.Secrets, l.secret)
		}
		end = l.spot
	}
	return nil, nil
}

// mayRead reports whether the policies allow to read one of the paths; none: they were asked.
func (c *compliance) mayRead(ctx context.Context, names, paths []string) (bool, error) {
	for _, path := range paths {
		d, err := c.policies.Decide(ctx, names, policies.Query{Path: path, Op: route.Read})
		if err != nil || d.Allowed {
			return d.Allowed, err
		}
	}
	return len(paths) == 0, nil
}

// records yields the late records of [rotate] that the policies allow to read.
func (c *compliance) records(
	ctx context.Context, names []string, after spot, now time.Time,
) (iter.Seq2[listed, error], error) {
	var all []listed
	for s, err := range c.rotating(ctx, names) {
		if err != nil && s.Path == "" {
			return nil, err
		}
		l := listed{spot: spot{Second: s.Deadline.Unix(), Path: s.Path}, secret: engine.LateSecret{
			Path: s.Path, Place: s.Place, Class: s.Class, Rotated: s.Last, Deadline: s.Deadline,
			Late: int64(s.Late(now) / time.Second),
		}}
		if err != nil {
			l.spot = spot{Unjudged: true, Path: s.Path}
			l.secret = engine.LateSecret{Path: s.Path, Finding: "its record cannot be read"}
		}
		if (err != nil || l.secret.Late > 0) && l.spot.compare(after) > 0 {
			all = append(all, l)
		}
	}
	slices.SortFunc(all, func(a, b listed) int { return a.spot.compare(b.spot) })
	return func(yield func(listed, error) bool) {
		for _, l := range all {
			if !yield(l, nil) {
				return
			}
		}
	}, nil
}

// agesOf yields what the index of a mount has after a spot.
func agesOf(ctx context.Context, o *mounts.Open, after spot, now time.Time) iter.Seq2[listed, error] {
	at := o.Entry().Path
	return func(yield func(listed, error) bool) {
		for _, unjudged := range []bool{false, true} {
			from, to, path := time.Unix(1, 0), now, ""
			if unjudged {
				from, to = time.Unix(0, 0), time.Unix(1, 0)
			}
			if after.Unjudged && !unjudged {
				continue
			}
			if after.Unjudged == unjudged && after.Path != "" {
				from = time.Unix(after.Second, 0)
				rest, below := strings.CutPrefix(after.Path, at)
				if below {
					path = rest + "\x00"
				} else if after.Path > at {
					from = from.Add(time.Second)
				}
			}
			for a, err := range o.Aged.Ages(ctx, from, path, to) {
				if !yield(listedAge(at, a, now), err) || err != nil {
					return
				}
			}
		}
	}
}

func listedAge(mount string, a engine.Age, now time.Time) listed {
	l := listed{reads: []string{mount + "data/" + a.Path}}
	if !a.FromData {
		l.reads = append(l.reads, mount+"metadata/"+a.Path)
	}
	l.spot = spot{Unjudged: a.Index.Unix() == 0, Second: a.Index.Unix(), Path: mount + a.Path}
	l.secret = engine.LateSecret{
		Path: mount + a.Path, Class: a.Class, Period: a.Period, Rotated: a.Rotated, Deadline: a.Deadline,
		Finding: a.Finding,
	}
	if !a.Deadline.IsZero() {
		l.secret.Late = max(int64(now.Sub(a.Deadline)/time.Second), 0)
	}
	return l
}

// untracked calls add for each secret after a path without dates, and returns the spot where the
// page ends; nil: at the end. It reads at most a number of secrets.
func (c *compliance) untracked(
	ctx context.Context, q engine.ComplianceQuery, after string, rows int, add func(engine.LateSecret),
) (*spot, error) {
	end, found := spot{Path: after}, 0
	for _, o := range c.mounts.Snapshot().Aged() {
		at := o.Entry().Path
		rest, below := strings.CutPrefix(after, at)
		switch {
		case below:
		case after > at:
			continue // all paths of the mount are before it
		default:
			rest = ""
		}
		for s, err := range o.Aged.Secrets(ctx, rest) {
			if err != nil {
				return nil, err
			}
			if rows--; rows < 0 || found == q.Limit {
				return &end, nil
			}
			end.Path = at + s.Path
			if s.Tracked {
				continue
			}
			visible, err := c.mayRead(ctx, q.Policies, []string{at + "data/" + s.Path, at + "metadata/" + s.Path})
			if err != nil {
				return nil, err
			}
			if visible {
				add(engine.LateSecret{Path: at + s.Path})
				found++
			}
		}
	}
	return nil, nil
}

// merge yields what the sources yield, each in order, in the order of all.
func merge(sources []iter.Seq2[listed, error]) iter.Seq2[listed, error] {
	return func(yield func(listed, error) bool) {
		type head struct {
			listed
			err  error
			next func() (listed, error, bool)
		}
		var heads []*head
		for _, s := range sources {
			h := &head{}
			var stop func()
			h.next, stop = iter.Pull2(s)
			defer stop()
			var open bool
			if h.listed, h.err, open = h.next(); open {
				heads = append(heads, h)
			}
		}
		for len(heads) > 0 {
			least := slices.MinFunc(heads, func(a, b *head) int { return a.spot.compare(b.spot) })
			if !yield(least.listed, least.err) {
				return
			}
			var open bool
			if least.listed, least.err, open = least.next(); !open {
				heads = slices.DeleteFunc(heads, func(h *head) bool { return h == least })
			}
		}
	}
}
