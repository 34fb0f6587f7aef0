package demo

import "sync/atomic"

// A stage has the parts of the demo and their counters.
type stage struct {
	out      *printer
	dir      string
	server   *server
	provider *provider
	consumer *consumer
	journal  *journal
	postgres atomic.Pointer[postgres] // nil without PostgreSQL
	operator *client                  // may configure and rotate the key
	reader   *client                  // may read the published key

	kills  int
	issued atomic.Int64 // database users that were issued
}
