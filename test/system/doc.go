// Package system tests the whole program: killed processes, full disks, hostile callers, and the
// clients and the guide that people use.
package system
