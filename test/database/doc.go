// Package database holds tests of the database engine on a real PostgreSQL. They
// need the build tag integration.
package database
