package rotate

import "time"

// A Class says how sensitive a credential is.
type Class string

// The classes.
const (
	Financial Class = "financial"
	Standard  Class = "standard"
	LowRisk   Class = "low-risk"
)

const day = 24 * time.Hour

// Period returns the default period of a class, and false if there is no such class.
func (c Class) Period() (time.Duration, bool) {
	switch c {
	case Financial:
		return 30 * day, true
	case Standard:
		return 60 * day, true
	case LowRisk:
		return 90 * day, true
	}
	return 0, false
}
