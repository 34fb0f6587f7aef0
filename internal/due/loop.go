package due

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/storage"
)

// An Outcome says what became of an item. Only the handler's commit moves or removes the row; a
// row that stays is handled again after the next rescan.
type Outcome uint8

// The outcomes.
const (
	Handled      Outcome = iota // done, or no longer necessary
	TargetFailed                // the target did not answer, or refused: pause the lane
	StoreFailed                 // the store or the audit log failed: retry soon
	ItemFailed                  // only this item failed: continue the lane
)

// Config of a [Loop].
type Config struct {
	Store interface {
		Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error]
		Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error]
	}
	// Handle handles one item. Several goroutines call it, but never two at the same time for one
	// item. It must return soon after ctx ends.
	Handle func(ctx context.Context, it Item) Outcome
	// Suspended reports that nothing may be done now; the loop calls it each second.
	Suspended func() bool
	// Late is called with the lateness of each item; may be nil.
	Late func(it Item, by time.Duration)
	Log  *slog.Logger
	// Workers is the maximum number of workers of one lane. 32 can do 6,000 revocations a second
	// at a target that takes 5 ms for each; more would only queue at the target.
	Workers int
}

// rescan is how often every lane starts again at its beginning. It is a safety net; usually the
// change feed reports new items.
const rescan = time.Minute

// Pauses of a lane whose target fails: the first, and the longest.
const (
	firstPause   = time.Second
	longestPause = time.Minute
)

// A Loop calls a handler for each item of the index when it falls due.
type Loop struct {
	cfg  Config
	wake chan struct{}

	mu    sync.Mutex
	lanes map[string]*lane
	wg    sync.WaitGroup
}

// A lane is the loop's state of one lane of the index. Guarded by Loop.mu.
type lane struct {
	name     string
	cursor   string    // the next key to read
	next     time.Time // when something is due; zero: unknown
	idle     bool      // nothing is left at or after cursor
	running  bool      // drain runs
	firstNew string    // the lowest key that the feed has reported since drain last read; "": none

	active  map[string]*activeItem // being handled
	pace    *pace
	paused  time.Time // until then; zero: not paused
	pause   time.Duration
	probing bool
}

// An activeItem is being handled. Guarded by Loop.mu.
type activeItem struct {
	seenAgain bool // its row was read again meanwhile
	probe     bool // its lane is paused, and waits for its outcome
}

// firstKey sorts before all keys of the lane.
func (ln *lane) firstKey() string { return Prefix + ln.name + "/" }

// NewLoop returns a loop that does nothing until Run.
func NewLoop(cfg Config) *Loop {
	if cfg.Workers == 0 {
		cfg.Workers = 32
	}
	return &Loop{cfg: cfg, wake: make(chan struct{}, 1), lanes: map[string]*lane{}}
}

// Run serves the index until ctx ends, and then waits for the handlers.
func (l *Loop) Run(ctx context.Context) error {
	defer l.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	l.wg.Go(func() { l.follow(ctx) })
	next := time.Now()
	for {
		if now := time.Now(); !now.Before(next) {
			if err := l.discover(ctx); err != nil && ctx.Err() == nil {
				l.cfg.Log.Warn("reading the due index", "error", err)
			}
			next = now.Add(rescan)
		}
		wait := min(l.start(ctx), time.Until(next))
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		case <-l.wake:
			timer.Stop()
		}
	}
}

// follow moves cursors back and wakes the loop when rows are committed.
func (l *Loop) follow(ctx context.Context) {
	for ctx.Err() == nil {
		joined := false
		for c, err := range l.cfg.Store.Watch(ctx, Prefix, 0) {
			if err != nil {
				if ctx.Err() == nil && !errors.Is(err, storage.ErrGap) {
					l.cfg.Log.Warn("following the due index", "error", err)
				}
				break
			}
			if !joined { // the feed does not report rows from before it began
				joined = true
				if err := l.discover(ctx); err != nil && ctx.Err() == nil {
					l.cfg.Log.Warn("reading the due index", "error", err)
				}
				l.wakeUp()
			}
			if it, ok := Parse(c.Key); ok && !c.Deleted {
				l.added(it, c.Key)
			}
		}
		// The feed may have missed something: read every lane.
		l.reset()
		l.wakeUp()
		cron.Pause(ctx, 100*time.Millisecond)
	}
}

func (l *Loop) added(it Item, key string) {
	l.mu.Lock()
	ln := l.laneLocked(it.Lane)
	if key < ln.cursor {
		ln.cursor = key
	}
	if ln.running && (ln.firstNew == "" || key < ln.firstNew) {
		ln.firstNew = key
	}
	sooner := ln.idle || it.At.Before(ln.next)
	if sooner {
		ln.next, ln.idle = it.At, false
	}
	l.mu.Unlock()
	if sooner {
		l.wakeUp()
	}
}

func (l *Loop) wakeUp() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Loop) laneLocked(name string) *lane {
	ln := l.lanes[name]
	if ln == nil {
		ln = &lane{name: name, cursor: Prefix + name +
			"/", active: map[string]*activeItem{}, pace: newPace(l.cfg.Workers), idle: true}
		l.lanes[name] = ln
	}
	return ln
}

func (l *Loop) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, ln := range l.lanes {
		ln.cursor, ln.next, ln.idle = Prefix+ln.name+"/", time.Time{}, false
	}
}

// discover finds the lanes, with one seek for each, and forgets empty ones.
func (l *Loop) discover(ctx context.Context) error {
	from := Prefix
	present := map[string]bool{}
	for {
		var item Item
		for e, err := range l.cfg.Store.Scan(ctx, from, storage.PrefixEnd(Prefix)) {
			if err != nil && e.Key == "" { // with a key, only the value is damaged, which is empty anyway
				return err
			}
			var ok bool
			if item, ok = Parse(e.Key); !ok {
				from = e.Key + "\x00"
				item.Lane = ""
			}
			break
		}
		if item.Lane == "" {
			break
		}
		present[item.Lane] = true
		l.mu.Lock()
		ln := l.laneLocked(item.Lane)
		ln.next, ln.idle = item.At, false
		if ln.paused.IsZero() { // a paused lane moves its cursor from probe to probe
			ln.cursor = ln.firstKey()
		}
		l.mu.Unlock()
		from = storage.PrefixEnd(Prefix + item.Lane + "/")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, ln := range l.lanes {
		if !present[name] && ln.idle && !ln.running && len(ln.active) == 0 {
			delete(l.lanes, name)
		}
	}
	return nil
}

// start drains each lane that has something due, and returns how long to wait for the next.
func (l *Loop) start(ctx context.Context) time.Duration {
	now := time.Now() // read before Suspended is called, so that it covers this time
	if l.cfg.Suspended != nil && l.cfg.Suspended() {
		return time.Second
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := rescan
	for _, ln := range l.lanes {
		if ln.running || ln.idle {
			continue
		}
		begin := ln.next
		if ln.paused.After(begin) {
			begin = ln.paused
		}
		if ln.probing {
			continue
		}
		if begin.After(now) {
			wait = min(wait, begin.Sub(now))
			continue
		}
		ln.running = true
		l.wg.Go(func() { l.drain(ctx, ln) })
	}
	return wait
}

// drain dispatches the due items of one lane until none is left, the lane is paused, or ctx ends.
func (l *Loop) drain(ctx context.Context, ln *lane) {
	defer l.wakeUp()
	for ctx.Err() == nil {
		now := time.Now()
		if l.cfg.Suspended != nil && l.cfg.Suspended() {
			break
		}
		l.mu.Lock()
		from, probe := ln.cursor, !ln.paused.IsZero()
		ln.firstNew = ""
		l.mu.Unlock()
		items, last, next, err := l.batch(ctx, ln, from, now, probe)
		if err != nil {
			if ctx.Err() == nil {
				l.cfg.Log.Warn("reading the due index", "lane", ln.name, "error", err)
			}
			l.stop(ln, from, time.Now().Add(time.Second))
			return
		}
		for _, it := range items {
			if !l.dispatch(ctx, ln, it) {
				l.stopPaused(ln) // paused meanwhile, or ctx has ended
				return
			}
		}
		if done := l.advance(ln, progress{from, last, next, now, len(items) == batchSize, probe}); done {
			return
		}
	}
	l.stop(ln, "", time.Now().Add(time.Second))
}

// batchSize is the maximum number of items in a batch.
const batchSize = 256

// batch reads the due items at or after from: one for a probe, otherwise at most batchSize. next
// is the time of the first item that is not due yet.
func (l *Loop) batch(
	ctx context.Context, ln *lane, from string, now time.Time, probe bool,
) (items []Item, last string, next time.Time, err error) {
	limit := batchSize
	if probe {
		limit = 1
	}
	for e, err := range l.cfg.Store.Scan(ctx, from, storage.PrefixEnd(Prefix+ln.name+"/")) {
		if err != nil && e.Key == "" {
			return nil, "", time.Time{}, err
		}
		it, ok := Parse(e.Key)
		if !ok {
			last = e.Key
			continue
		}
		if it.At.After(now) {
			return items, last, it.At, nil
		}
		last = e.Key
		items = append(items, it)
		if len(items) == limit {
			return items, last, now, nil
		}
	}
	return items, last, time.Time{}, nil
}

// A progress describes one batch that drain has read.
type progress struct {
	from, last string    // where it began, and the last key that it found; "": none
	next       time.Time // of the first item that is not due yet
	now        time.Time
	full       bool // more may be due
	probe      bool
}

// emptyBelow returns the key below which nothing is left to dispatch.
func (k progress) emptyBelow(lane string) string {
	if k.full || k.probe {
		return k.last + "\x00"
	}
	// Everything due has been dispatched. The next batch begins at the current time, because the
	// store would step over the traces of removed rows each time.
	return max(k.last+"\x00", Item{Lane: lane, At: k.now}.Key())
}

// advance moves the cursor past the dispatched items, unless the feed has moved it back meanwhile,
// and reports whether the lane has nothing to do now.
func (l *Loop) advance(ln *lane, p progress) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := p.next
	lowered := ln.cursor != p.from
	if empty := p.emptyBelow(ln.name); !lowered && empty > ln.cursor {
		ln.cursor = empty
	}
	if it, ok := Parse(ln.firstNew); ok { // it may have been committed after the batch was read
		ln.cursor = min(ln.cursor, ln.firstNew)
		if next.IsZero() || it.At.Before(next) {
			next = it.At
		}
	}
	if p.probe || !ln.paused.IsZero() {
		// Wait for the end of the pause, or for the outcome of the probe.
		ln.running = false
		switch {
		case p.last != "":
		case p.from != ln.firstKey() && !lowered: // round again: each is probed in turn
			ln.cursor, ln.next = ln.firstKey(), time.Now().Add(firstPause) // not at once: none may have told
		default:
			ln.next, ln.idle = next, next.IsZero()
		}
		return true
	}
	if lowered || !next.IsZero() && !next.After(time.Now()) {
		return false
	}
	ln.running, ln.next, ln.idle = false, next, next.IsZero()
	return true
}

// stopPaused ends a drain without moving the cursor, because not all items have been dispatched.
func (l *Loop) stopPaused(ln *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ln.running, ln.idle, ln.next = false, false, ln.paused
}

func (l *Loop) stop(ln *lane, cursor string, next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cursor != "" && cursor < ln.cursor {
		ln.cursor = cursor
	}
	ln.running, ln.next, ln.idle = false, next, false
}

// dispatch gives one item to a worker. It reports false if it has not, because the lane was paused
// meanwhile or ctx has ended.
func (l *Loop) dispatch(ctx context.Context, ln *lane, it Item) bool {
	end, err := ln.pace.begin(ctx)
	if err != nil {
		return false
	}
	key := it.Key()
	l.mu.Lock()
	now := time.Now()
	if ln.paused.After(now) || ln.probing {
		l.mu.Unlock()
		end(false)
		return false
	}
	if other := ln.active[key]; other != nil {
		other.seenAgain = true // its handler may have put it there anew
		l.mu.Unlock()
		end(false)
		return true
	}
	ln.probing = !ln.paused.IsZero()
	ln.active[key] = &activeItem{probe: ln.probing}
	l.mu.Unlock()
	if l.cfg.Late != nil {
		l.cfg.Late(it, max(now.Sub(it.At), 0))
	}
	l.wg.Go(func() {
		out := l.cfg.Handle(ctx, it)
		l.finish(ln, key, out)
		end(out == Handled)
	})
	return true
}

// finish updates the lane of an item by the item's outcome.
func (l *Loop) finish(ln *lane, key string, out Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	item, now := ln.active[key], time.Now()
	delete(ln.active, key)
	if item.probe {
		ln.probing = false
	}
	if item.seenAgain {
		ln.cursor, ln.next, ln.idle = min(ln.cursor, key), now, false
		l.wakeUp()
	}
	switch out {
	case Handled:
		if !ln.paused.IsZero() {
			ln.paused, ln.pause = time.Time{}, 0
			ln.cursor, ln.next, ln.idle = ln.firstKey(), now, false
			l.wakeUp()
		}
	case ItemFailed:
		if item.probe { // it says nothing about the target: probe with another item
			ln.next, ln.idle = now, false
			l.wakeUp()
		}
	case TargetFailed, StoreFailed:
		if !item.probe { // the next probe is another item, because this one may never succeed
			ln.cursor = min(ln.cursor, key)
		}
		if ln.paused.After(now) {
			break // another item has just paused it
		}
		ln.pause = min(max(firstPause, 2*ln.pause), longestPause)
		if out == StoreFailed {
			ln.pause = firstPause
		}
		ln.paused, ln.idle = now.Add(ln.pause), false
		ln.next = ln.paused
		l.wakeUp()
	}
}
