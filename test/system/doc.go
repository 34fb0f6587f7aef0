// Package system tests the whole: processes that are killed, disks that are
// full, callers that are hostile, and the clients and the guide that people use.
package system
