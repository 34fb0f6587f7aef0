// Package databasetest is the conformance suite of database.Provider, which runs against a real
// server. The test of an implementation describes its server in a [Target] and calls [Run].
//
// [Fake] is a database in memory that passes the suite, for tests of the packages above.
package databasetest
