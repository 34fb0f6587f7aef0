package rotate

import "fmt"

// past returns the key of the row of an ended rotation.
func (k *Kind) past(name string, n uint32) string {
	return fmt.Sprintf("%s%s/%010d", k.History, name, n)
}

// Limits on the stored history of a record.
const (
	MaxHistory = 100 // rotations
	maxJournal = 2000
)
