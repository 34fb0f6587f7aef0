// Package inprocess tests several packages together without sockets or processes: a whole core
// over a store in memory, and leases with the due loop through months.
package inprocess
