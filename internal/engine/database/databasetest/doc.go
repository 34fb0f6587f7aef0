// Package databasetest is the conformance suite of database.Provider: what every
// kind of database must do, tried on a real server. An implementation's test
// describes its server in a [Target] and calls [Run].
//
// [Fake] is a database in memory that passes the suite, for tests of what stands above.
package databasetest
