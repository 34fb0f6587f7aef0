// Package pgtest starts a real PostgreSQL server for a test: its own data
// folder, a free port, scram-sha-256, and the superuser "postgres" with the
// password "pgpass". PostgreSQL refuses to run as root, so a test that runs as
// root starts it as the user postgres, or else nobody.
package pgtest
