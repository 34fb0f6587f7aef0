// Package daemon runs the servers of tests: each a process of its own on a free port of the
// loopback interface, with its files in a temporary folder. PostgreSQL and MariaDB refuse to run
// as root, so that a test that runs as root starts them as another account.
package daemon
