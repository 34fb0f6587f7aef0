// Package redistest runs a real Redis or Valkey for tests: a process of its own on a free port of
// the loopback interface, with its files in a temporary folder.
package redistest
