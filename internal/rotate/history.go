package rotate

import "fmt"

// past is the row of a rotation that has ended.
func (k *Kind) past(name string, n uint32) string {
	return fmt.Sprintf("%s%s/%010d", k.History, name, n)
}

// How much history is kept of a key.
const (
	MaxHistory = 100 // rotations
	maxJournal = 2000
)
