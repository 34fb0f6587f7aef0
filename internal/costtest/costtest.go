// Package costtest checks that the cost of parsing texts of others is limited: the size of a text
// is limited, and each byte takes at most a fixed number of steps. A table in internal/arch lists
// the parsers that must be checked.
//
// A step is the time of one iteration of a small loop on this machine, in this build. It is
// measured as processor time of the parsing thread, so that a busy machine does not make a parser
// look slow.
package costtest

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Parser is a function that parses texts of others.
type Parser struct {
	// Limit is the longest text in bytes that is read. Longer ones are refused.
	Limit int

	// Steps are how many each byte may cost; 0: 200. Give about ten times what "go test -v" shows:
	// a slow constant is not what this is about.
	Steps int

	// Parse reads a text. What is wrong with the text does not matter, but that one longer than
	// Limit is an error.
	Parse func(text string) error
}

const (
	defaultSteps = 200
	startBytes   = 4 << 10 // what a short text may cost, as if it were so much longer
	attempts     = 3       // the least of so many measurements counts
	patience     = 2 * time.Minute
)

// A Shape is a family of texts: Head, then Unit as often as fits into the limit, then Tail. A § in
// Unit is replaced by the number of the repetition, for names that must be unique.
type Shape struct{ Head, Unit, Tail string }

// Fuzz is the body of a fuzz target for cost. Each shape is filled up to the limit, so that a
// quadratic cost is detected, and once above it.
func Fuzz(f *testing.F, p Parser, shapes ...Shape) {
	for _, s := range shapes {
		f.Add(s.Head, s.Unit, s.Tail)
	}
	f.Fuzz(func(t *testing.T, head, unit, tail string) {
		steps, err := p.check(Shape{head, unit, tail})
		if err != nil {
			t.Error(err)
		}
		t.Logf("%.1f steps a byte", steps)
	})
}

// check measures a shape. The steps are those of each byte.
func (p Parser) check(s Shape) (steps float64, err error) {
	text, long := s.fill(p.Limit)
	if text == "" {
		return 0, nil
	}
	if p.Parse(long) == nil {
		return 0, fmt.Errorf("a text of %d bytes was read, and the limit is %d", len(long), p.Limit)
	}
	allowed := p.Steps
	if allowed == 0 {
		allowed = defaultSteps
	}
	allowed *= instrumented
	if !measurable { // this system cannot measure steps
		_ = p.Parse(text)
		return 0, nil
	}
	for range attempts {
		spent, ended := measure(func() { _ = p.Parse(text) })
		if !ended {
			return 0, fmt.Errorf("a text of %d bytes is not read after %s: %.80q…", len(text), patience, text)
		}
		steps = float64(spent) / step() / float64(len(text)+startBytes)
		if steps <= float64(allowed) {
			return steps, nil
		}
	}
	return steps, fmt.Errorf("each of %d bytes costs %.0f steps, and may cost %d: %.80q…", len(text), steps, allowed,
		text)
}

// fill makes the longest text of the shape within a limit, and one above it.
func (s Shape) fill(limit int) (text, long string) {
	var b strings.Builder
	b.WriteString(s.Head)
	for i := 0; ; i++ {
		unit := strings.ReplaceAll(s.Unit, "§", strconv.Itoa(i))
		if unit == "" {
			return "", ""
		}
		if b.Len()+len(unit)+len(s.Tail) > limit {
			if i == 0 {
				return "", ""
			}
			text = b.String()
			return text + s.Tail, text + unit + s.Tail
		}
		b.WriteString(unit)
	}
}

// measure runs f on its own thread and returns the processor time that it took.
func measure(f func()) (spent time.Duration, ended bool) {
	done := make(chan time.Duration, 1)
	go func() {
		runtime.LockOSThread() // ends with the goroutine, and the thread with it
		before := threadTime()
		f()
		done <- threadTime() - before
	}()
	select {
	case spent := <-done:
		return spent, true
	case <-time.After(patience):
		return 0, false
	}
}

// step is the time of one iteration of a loop that does as little as a lexer does for a byte.
var step = sync.OnceValue(func() float64 {
	const rounds = 1 << 22
	least := time.Duration(1 << 62)
	text := strings.Repeat("SELECT 'a' ;{{}}", 1<<8)
	for range attempts {
		spent, _ := measure(func() {
			var classes [256]int
			at := 0
			for range rounds / len(text) {
				for i := range len(text) {
					at = at<<1 ^ classes[text[i]] ^ i
					classes[at&255]++
				}
			}
		})
		least = min(least, spent)
	}
	return max(float64(least)/rounds, 0.1)
})
