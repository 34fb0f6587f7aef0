// Package audit writes what happened, before it has an effect and before
// anyone is answered.
//
// An [Entry] describes one request, one answer, or one thing that the server does by
// itself. The [Broker] renders it for every enabled device, with the device's
// own salt, and returns once at least one device has written it; if devices are
// enabled and none writes, it refuses, and so must the caller. A line counts as written when
// write(2) has returned; it is not synced.
//
// # Lines
//
// A device holds JSON lines in Vault's form. Tokens, and every string, number and
// boolean of a payload, appear only as "hmac-sha256:<hex>". Each line ends with
//
//	,"sequence":<n>,"previous":"sha256:<hex of the line before>"}
//
// so that [Verify] shows where a line was removed, changed or put in. The
// sequence continues across restarts, file rotation and outages. Where a crash
// or a full disk tore a line, it stays as it is, the next line carries
// "torn":<bytes> and continues the chain from the last whole line. The chain holds
// no key: who can rewrite all lines up to the end can make a new one, and who cuts off the end
// leaves no trace in the file. Against both, keep a [Position] elsewhere.
//
// # Goroutines
//
// Each device has one goroutine, which alone calls the device. Callers add
// their lines to what waits and are woken together: all that waits is one write.
// A device that errs, or does not return in time, is failing: it gets no more lines, until a
// probe – an ordinary line saying how many were missed – has been written.
package audit

import (
	"context"

	"github.com/keyturn/keyturn/internal/hostfile"
)

// A Device is a place that lines go to. The broker calls it from one goroutine,
// one call at a time.
//
// After Write has returned an error, or on a device just opened, the broker
// calls Tail before it writes again.
type Device interface {
	// Tail makes the device ready for a whole line – it opens what must be
	// opened, and ends a torn line – and tells where the device stands.
	Tail() (Tail, error)
	// Write writes whole lines. A nil error means that all of them are with
	// the operating system or the receiver; any error that some may be. It should give
	// up when ctx ends; where it cannot, the broker stops waiting for it.
	Write(ctx context.Context, lines []byte) error
	// Reopen opens the place anew: after a log rotation there is a new file.
	Reopen() error
	// Close releases the device. Later calls return errors.
	Close() error
}

// A Tail is the end of what a device holds.
type Tail struct {
	Line []byte // the last whole line, without its newline; nil: none, or not readable
	Torn int    // bytes after that line which are no whole line
}

// A Type is a kind of device. Each implementation exports one.
type Type struct {
	Name string
	// Open checks the configuration and opens the device. It writes nothing.
	Open func(cfg Config) (Device, error)
}

// Config is what a device is opened with.
type Config struct {
	Path       string            // where it is enabled: "file/"
	Options    map[string]string // the device's own; the common ones are taken out
	StorageDir string            // the folder of the server's storage, where nothing may be written; may be empty
	Folders    hostfile.Folders  // where files may be written; none: everywhere but in folders of the system
}
