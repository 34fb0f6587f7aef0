// Package database tests the database engine with real servers. The tests need the build tag
// integration.
package database
