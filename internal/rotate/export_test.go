package rotate

import (
	"fmt"
	"time"
)

// ManagerOf returns a manager whose census has n records. One in ten is in trouble.
func ManagerOf(n int) *Manager {
	m := New(Config{Mount: func() string { return "mount/" }})
	k := &Kind{Records: "r/", Path: func(name string) string { return "keys/" + name }}
	for i := range n {
		r := &Record{Name: fmt.Sprintf("key-%06d", i), Next: time.Now(), Due: time.Now(),
			Current: &Ref{ID: "k", At: time.Now()}}
		if i%10 == 9 {
			r.Failures = 1
		}
		m.census.set(k, r.Name, 1, standingOf(k, r))
	}
	return m
}
