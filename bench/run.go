package main

import (
	"io"
	"time"
)

// bench is one run of the program.
type bench struct {
	binary   string // keyturn
	dir      string // on a real disk; removed at the end
	rounds   int
	round    time.Duration
	conns    int
	leases   int
	expiring int
	things   int
	profile  string // the folder for profiles, or ""
	log      io.Writer
}
