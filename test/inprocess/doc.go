// Package inprocess tests several rooms together without sockets or processes:
// a whole core over a store in memory, leases with the due loop through months.
package inprocess
