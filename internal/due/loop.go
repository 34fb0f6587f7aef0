package due

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/storage"
)

// An Outcome is what a handler has done with an item. Only a handler's own
// commit moves or drops the row; a row that stays is met again at the next rescan.
type Outcome uint8

// The outcomes.
const (
	Handled      Outcome = iota // done, or not to be done any more
	TargetFailed                // the thing outside did not answer, or refused: pause the lane
	StoreFailed                 // our own store or audit did not take it: try again soon
	ItemFailed                  // nobody else is to blame: the lane goes on; it comes again when its row says, or at the next rescan
)

// Config of a [Loop].
type Config struct {
	Store interface {
		Scan(ctx context.Context, from, to string) iter.Seq2[storage.Entry, error]
		Watch(ctx context.Context, prefix string, after storage.Version) iter.Seq2[storage.Change, error]
	}
	// Handle does one item. It is called by several goroutines, never twice at
	// once for one item, and must return soon after ctx ends.
	Handle func(ctx context.Context, it Item) Outcome
	// Held reports that nothing may be done now; the loop asks again each second.
	Held func() bool
	// Late is told how late each item was begun; may be nil.
	Late func(it Item, by time.Duration)
	Log  *slog.Logger
	// Workers at one lane at a time, at most. 32 keep a target of 5 ms busy with
	// 6,000 undos a second; more would only queue at the target.
	Workers int
}

// rescan is how often every lane starts again at its beginning, whatever the
// feed has told: a safety net, not the way that items are found.
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

// A lane is what the loop knows of one lane of the index. Guarded by Loop.mu.
type lane struct {
	name    string
	cursor  string    // the next key to look at
	next    time.Time // when there is something to do; zero: not known, look
	idle    bool      // nothing is left at or after cursor
	running bool
	news    string // the first key that the feed has told of since the running drain's last look; "": none

	inflight map[string]*flight // with a handler
	pace     *pace
	paused   time.Time // until then; zero: not paused
	pause    time.Duration
	probing  bool
}

// A flight is an item that a handler has. Guarded by Loop.mu.
type flight struct {
	again bool // the row was met again meanwhile
	probe bool // its lane waits to learn how it goes
}

// first is the key before all of the lane's.
func (ln *lane) first() string { return Prefix + ln.name + "/" }

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

// follow lowers cursors and wakes the loop as rows are committed.
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
			if !joined { // what was committed before the feed began, it does not tell
				joined = true
				if err := l.discover(ctx); err != nil && ctx.Err() == nil {
					l.cfg.Log.Warn("reading the due index", "error", err)
				}
				l.poke()
			}
			if it, ok := Parse(c.Key); ok && !c.Deleted {
				l.added(it, c.Key)
			}
		}
		// The feed left something out: look everywhere.
		l.reset()
		l.poke()
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (l *Loop) added(it Item, key string) {
	l.mu.Lock()
	ln := l.laneLocked(it.Lane)
	if key < ln.cursor {
		ln.cursor = key
	}
	if ln.running && (ln.news == "" || key < ln.news) {
		ln.news = key
	}
	sooner := ln.idle || it.At.Before(ln.next)
	if sooner {
		ln.next, ln.idle = it.At, false
	}
	l.mu.Unlock()
	if sooner {
		l.poke()
	}
}

func (l *Loop) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Loop) laneLocked(name string) *lane {
	ln := l.lanes[name]
	if ln == nil {
		ln = &lane{name: name, cursor: Prefix + name + "/", inflight: map[string]*flight{}, pace: newPace(l.cfg.Workers), idle: true}
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

// discover finds the lanes by one seek each, and forgets those that have
// nothing any more.
func (l *Loop) discover(ctx context.Context) error {
	from := Prefix
	present := map[string]bool{}
	for {
		var first Item
		for e, err := range l.cfg.Store.Scan(ctx, from, storage.PrefixEnd(Prefix)) {
			if err != nil && e.Key == "" { // else its value is damaged, which holds nothing
				return err
			}
			var ok bool
			if first, ok = Parse(e.Key); !ok {
				from = e.Key + "\x00"
				first.Lane = ""
			}
			break
		}
		if first.Lane == "" {
			break
		}
		present[first.Lane] = true
		l.mu.Lock()
		ln := l.laneLocked(first.Lane)
		ln.next, ln.idle = first.At, false
		if ln.paused.IsZero() { // the probes of a paused lane go round by themselves
			ln.cursor = ln.first()
		}
		l.mu.Unlock()
		from = storage.PrefixEnd(Prefix + first.Lane + "/")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, ln := range l.lanes {
		if !present[name] && ln.idle && !ln.running && len(ln.inflight) == 0 {
			delete(l.lanes, name)
		}
	}
	return nil
}

// start begins each lane that has something due and returns how long to wait
// for the next.
func (l *Loop) start(ctx context.Context) time.Duration {
	now := time.Now() // before Held: what it does not hold, this was not
	if l.cfg.Held != nil && l.cfg.Held() {
		return time.Second
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	wait := rescan
	for _, ln := range l.lanes {
		if ln.running || ln.idle {
			continue
		}
		at := ln.next
		if ln.paused.After(at) {
			at = ln.paused
		}
		if ln.probing {
			continue
		}
		if at.After(now) {
			wait = min(wait, at.Sub(now))
			continue
		}
		ln.running = true
		l.wg.Go(func() { l.drain(ctx, ln) })
	}
	return wait
}

// drain hands out what is due in one lane until nothing is, the lane is
// paused, or ctx ends.
func (l *Loop) drain(ctx context.Context, ln *lane) {
	defer l.poke()
	for ctx.Err() == nil {
		now := time.Now()
		if l.cfg.Held != nil && l.cfg.Held() {
			break
		}
		l.mu.Lock()
		from, probe := ln.cursor, !ln.paused.IsZero()
		ln.news = ""
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
			if !l.hand(ctx, ln, it) {
				l.park(ln) // paused meanwhile, or over
				return
			}
		}
		if done := l.advance(ln, look{from, last, next, now, len(items) == mostItems, probe}); done {
			return
		}
	}
	l.stop(ln, "", time.Now().Add(time.Second))
}

// mostItems is how many items are handed out between two looks.
const mostItems = 256

// batch reads what is due at or after from: at most mostItems, one for a
// probe. next is the time of the first item that is not due yet.
func (l *Loop) batch(ctx context.Context, ln *lane, from string, now time.Time, probe bool) (items []Item, last string, next time.Time, err error) {
	limit := mostItems
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

// A look is what a drain has read of its lane.
type look struct {
	from, last string    // the first key that it looked at, the last that it found; "": none
	next       time.Time // of the first item that is not due yet
	now        time.Time
	full       bool // there may be more that is due
	probe      bool
}

// past is the key up to which a look has left nothing.
func (k look) past(lane string) string {
	if k.full || k.probe {
		return k.last + "\x00"
	}
	// All that was due is in other hands. Rows that are gone leave traces in the store, which it would
	// step over at each look: so the next begins at what is not due yet.
	return max(k.last+"\x00", Item{Lane: lane, At: k.now}.Key())
}

// advance moves the cursor past what was handed out, unless the feed has
// lowered it meanwhile, and reports whether the lane has nothing to do now.
func (l *Loop) advance(ln *lane, k look) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := k.next
	lowered := ln.cursor != k.from
	if past := k.past(ln.name); !lowered && past > ln.cursor {
		ln.cursor = past
	}
	if it, ok := Parse(ln.news); ok { // it may have been committed after the look
		ln.cursor = min(ln.cursor, ln.news)
		if next.IsZero() || it.At.Before(next) {
			next = it.At
		}
	}
	if k.probe || !ln.paused.IsZero() {
		// Wait for the pause to pass, or for the probe to tell.
		ln.running = false
		switch {
		case k.last != "":
		case k.from != ln.first() && !lowered: // round again: each is probed in turn
			ln.cursor, ln.next = ln.first(), time.Now().Add(firstPause) // not at once: none may have told
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

// park ends a drain whose cursor must stay: what was handed out is in flight
// and what was not is still to come.
func (l *Loop) park(ln *lane) {
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

// hand gives one item to a worker. It reports false where the lane was paused
// meanwhile and the item was not handed out.
func (l *Loop) hand(ctx context.Context, ln *lane, it Item) bool {
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
	if busy := ln.inflight[key]; busy != nil {
		busy.again = true // its handler may have put it there anew
		l.mu.Unlock()
		end(false)
		return true
	}
	ln.probing = !ln.paused.IsZero()
	ln.inflight[key] = &flight{probe: ln.probing}
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

// finish learns from an item how its lane's target is.
func (l *Loop) finish(ln *lane, key string, out Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, now := ln.inflight[key], time.Now()
	delete(ln.inflight, key)
	if f.probe {
		ln.probing = false
	}
	if f.again {
		ln.cursor, ln.next, ln.idle = min(ln.cursor, key), now, false
		l.poke()
	}
	switch out {
	case Handled:
		if !ln.paused.IsZero() {
			ln.paused, ln.pause = time.Time{}, 0
			ln.cursor, ln.next, ln.idle = ln.first(), now, false
			l.poke()
		}
	case ItemFailed:
		if f.probe { // it tells nothing of the target: ask another
			ln.next, ln.idle = now, false
			l.poke()
		}
	case TargetFailed, StoreFailed:
		if !f.probe { // of probes each gets its turn, lest one that never can be done stands before all
			ln.cursor = min(ln.cursor, key)
		}
		if ln.paused.After(now) {
			break // another item of the same moment has paused it
		}
		ln.pause = min(max(firstPause, 2*ln.pause), longestPause)
		if out == StoreFailed {
			ln.pause = firstPause
		}
		ln.paused, ln.idle = now.Add(ln.pause), false
		ln.next = ln.paused
		l.poke()
	}
}
