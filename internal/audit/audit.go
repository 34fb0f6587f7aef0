// Package audit writes an entry of every request before it has an effect, and of every answer
// before it is sent.
//
// An [Entry] describes one request, one answer, or one action of the server itself. The [Broker]
// renders it for every enabled device, with the device's own salt, and returns when at least one
// device has written it. If devices are enabled but none writes, it returns an error, and the
// caller must refuse the request. A line counts as written when write(2) has returned; it is not
// synced.
//
// # Lines
//
// A device contains JSON lines in Vault's format. Tokens, and every string, number and boolean of
// a payload, appear only as "hmac-sha256:<hex>". Each line ends with
//
//	,"sequence":<n>,"previous":"sha256:<hex of the line before>"}
//
// so that [Verify] detects where a line was removed, changed or inserted. The sequence continues
// across restarts, file rotation and outages. A line that is torn by a crash or a full disk stays
// as it is; the next line has "torn":<bytes>, and continues the chain from the last whole line.
// The chain uses no key: an attacker can rewrite all lines up to the end, or cut off the end,
// without leaving a trace in the file. To detect that, store a [Position] elsewhere.
//
// # Goroutines
//
// Each device has one goroutine, and only that calls the device. Callers add their lines to the
// waiting batch, which is written at once, and are woken together. A device that returns an error,
// or does not return in time, is failing. It gets no more lines until a probe – an ordinary line
// that says how many lines it has missed – has been written.
package audit

import (
	"context"

	"github.com/keyturn/keyturn/internal/hostfile"
)

// A Device is a destination of lines. The broker calls it from one goroutine, one call at a time.
//
// After Write has returned an error, or on a device just opened, the broker
// calls Tail before it writes again.
type Device interface {
	// Tail makes the device ready for a whole line: it opens what must be opened, and ends a torn
	// line. It returns the end of the device's contents.
	Tail() (Tail, error)
	// Write writes whole lines. A nil error means that the operating system or the receiver has
	// all of them; an error, that it may have some. Write should return when ctx ends; if it
	// cannot, the broker stops waiting for it.
	Write(ctx context.Context, lines []byte) error
	// Reopen reopens the destination, because log rotation may have replaced a file.
	Reopen() error
	// Close releases the device. Later calls return errors.
	Close() error
}

// A Tail is the end of a device's contents.
type Tail struct {
	Line []byte // the last whole line, without its newline; nil: none, or unreadable
	Torn int    // bytes after that line
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
	Options    map[string]string // the device's own, without the common ones
	StorageDir string            // the storage folder, where nothing may be written; may be empty
	Folders    hostfile.Folders  // where files may be written; none: everywhere except in system folders
}
