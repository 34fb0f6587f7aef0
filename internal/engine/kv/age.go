package kv

import (
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/wire"
)

// The fields of a secret's data, or of its custom metadata, that say when it is rotated. The last
// two are in custom metadata only.
const (
	rotatedAt      = "rotated_at"
	nextRotation   = "next_rotation"
	rotationPeriod = "rotation_period"
	rotationClass  = "class"
)

// ages is the index of when secrets must be rotated. A row's name is the deadline and the path.
const ages barrier.Rows[age] = nextPrefix

// An age is when a secret was rotated, and when it must be rotated again. It contains no text of
// the secret's data.
type age struct {
	Rotated  time.Time     `json:"r,omitzero"`
	Deadline time.Time     `json:"n,omitzero"`
	Class    rotate.Class  `json:"c,omitempty"`
	Period   time.Duration `json:"p,omitempty"`
	Finding  string        `json:"f,omitempty"` // why the dates cannot be judged
	FromData bool          `json:"d,omitempty"` // a date is in the secret's data
	Expires  time.Time     `json:"x,omitzero"`  // when the version is deleted
}

// unjudged is the deadline, in the index, of a secret whose dates cannot be judged.
var unjudged = time.Unix(0, 0).UTC()

// indexedAt is the deadline in the name of the row.
func (a *age) indexedAt() time.Time {
	if a.Finding != "" {
		return unjudged
	}
	return a.Deadline
}

// aheadLimit is how far a clock that wrote rotated_at may be ahead.
const aheadLimit = time.Minute

// ageOf reads the dates of a secret that was written at a time, from its data or, if absent there,
// from its custom metadata. nil: it has none.
func ageOf(data []byte, custom map[string]string, written time.Time) *age {
	texts := someTexts(data, rotatedAt, nextRotation)
	a := &age{FromData: texts[rotatedAt] != "" || texts[nextRotation] != ""}
	a.Class = rotate.Class(custom[rotationClass])
	limit, known := a.Class.Period()
	if !known {
		a.Class = ""
	}
	a.setPeriod(custom[rotationPeriod])
	read := func(name string) time.Time {
		text := texts[name]
		if text == "" {
			text = custom[name]
		}
		if text == "" {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339, text)
		if t = t.UTC(); err != nil || t.Unix() < 1 || t.Year() > 9999 {
			a.find(name + " is not a date; write it as 2026-03-09T00:00:00Z")
			return time.Time{}
		}
		return t
	}
	a.Rotated, a.Deadline = read(rotatedAt), read(nextRotation)
	if a.Rotated.After(written.Add(aheadLimit)) {
		a.find("rotated_at was in the future when it was written; write the time of the rotation")
	}
	if a.Period > 0 {
		limit = a.Period
	}
	switch {
	case a.Rotated.IsZero() && a.Deadline.IsZero():
		if a.Class == "" && a.Period == 0 && a.Finding == "" {
			return nil // untracked
		}
		a.find("rotated_at is missing; write the time of the last rotation")
	case a.Rotated.IsZero() || a.Finding != "":
	case limit == 0 && a.Deadline.IsZero():
		if custom[rotationClass] != "" {
			a.find("class is none of financial, standard and low-risk; write one, or rotation_period")
		}
		limit, _ = rotate.Standard.Period()
		fallthrough
	default:
		if by := a.Rotated.Add(limit); limit > 0 && (a.Deadline.IsZero() || by.Before(a.Deadline)) {
			a.Deadline = by
		}
	}
	return a
}

// maxPeriod is the longest rotation_period: 100 years.
const maxPeriod = 100 * 365 * 24 * time.Hour

func (a *age) setPeriod(text string) {
	if text == "" {
		return
	}
	d, err := wire.ParseDuration(text)
	if err != nil || d <= 0 || d > maxPeriod {
		a.find("rotation_period is not a duration; write it as 720h or 30d")
		return
	}
	a.Period = d
}

// find notes the first finding.
func (a *age) find(text string) {
	if a.Finding == "" {
		a.Finding = text
	}
}
