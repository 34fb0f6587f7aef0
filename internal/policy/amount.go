package policy

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/wire"
)

// amounts are the number and the duration that engines may read a text as.
type amounts struct {
	digits     string // of a whole number that is written out, without zeros before it
	number     float64
	isNumber   bool
	duration   time.Duration // -1: endless
	isDuration bool
	lax        bool // the duration is one for fields that are known to take it: "system" and endless ones
	empty      bool // an engine takes an empty text for 0
}

// amountsOf parses a text; nil: it is not an amount.
func amountsOf(text string) *amounts {
	text = strings.TrimSpace(text)
	a := amounts{empty: text == ""}
	bare := strings.TrimLeft(text, "+-")
	if bare != "" && strings.Trim(bare, "0123456789") == "" && len(text) <= len(bare)+1 {
		if a.digits = strings.TrimLeft(bare, "0"); a.digits == "" {
			a.digits = "0"
		} else if text[0] == '-' {
			a.digits = "-" + a.digits
		}
	}
	if f, err := strconv.ParseFloat(text, 64); a.empty || err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
		a.number, a.isNumber = f, true
	}
	d, err := wire.ParseDuration(text)
	if a.isDuration = err == nil; a.isDuration {
		a.duration = d
	} else if a.duration, err = laxDuration(text); err == nil {
		a.isDuration, a.lax = true, true
	}
	if a.digits == "" && !a.isNumber && !a.isDuration {
		return nil
	}
	return &a
}

// laxDuration reads what [wire.TTL] and [wire.Lifetime] take, and no other duration.
func laxDuration(text string) (time.Duration, error) {
	if strings.EqualFold(text, "system") {
		return 0, nil
	}
	_, err := wire.ParseDuration(strings.TrimPrefix(text, "-"))
	return -1, err
}

// zero reports whether engines read it as 0.
func (a *amounts) zero() bool {
	return a != nil && (a.isNumber && a.number == 0 || a.isDuration && a.duration == 0 && !a.lax)
}

// exactly reports whether a field of a kind gets the same amount from both. It is false for other
// kinds.
func (a *amounts) exactly(b *amounts, kind wire.Kind) bool {
	switch {
	case a == nil || b == nil:
		return false
	case kind == wire.KindDuration:
		return a.isDuration && b.isDuration && a.duration == b.duration
	case kind != wire.KindNumber:
		return false
	case a.digits != "" && b.digits != "":
		return a.digits == b.digits
	}
	return a.isNumber && b.isNumber && a.number == b.number && math.Abs(a.number) < 1<<53
}

// perhaps reports whether a field of a possibly unknown kind may get the same amount from both.
func (a *amounts) perhaps(b *amounts, kind wire.Kind) bool {
	switch {
	case a == nil || b == nil, kind == wire.KindText && (a.empty || b.empty):
		return false
	case kind == wire.KindDuration:
		return a.isDuration && b.isDuration && a.duration == b.duration
	case kind != wire.KindNumber && a.digits != "" && b.digits != "":
		// a float has fewer digits than texts that differ in one
		return a.digits == b.digits
	case a.isNumber && b.isNumber && a.number == b.number:
		return true
	}
	return kind != wire.KindNumber && a.isDuration && b.isDuration && !a.lax && !b.lax && a.duration == b.duration
}
