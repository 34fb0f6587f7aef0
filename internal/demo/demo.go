// Package demo is `keyturn demo`, which shows Keyturn at work on one machine.
//
// It starts a server of the same binary on embedded storage, a provider of keys ([keyserver]), and
// a consumer that calls the provider all the time with the key that it reads from the server. Then
// it rotates the key on demand, rolls a rotation back, and kills the server in the middle of a
// rotation. If PostgreSQL is installed, a temporary server issues users that live for seconds. The
// demo prints each step; the table at the end compares the counts with what they should be, and
// sets the exit code.
//
// Everything is in temporary folders and on free ports of the loopback address, and is removed at
// the end. One goroutine runs the demo; the consumer and the database part run at the same time
// and print through the same [printer].
package demo

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Command is `keyturn demo`, as the command line calls it. The exit code is 1 if a count is wrong.
func Command(ctx context.Context, args []string, _ io.Reader, stdout, stderr io.Writer) int {
	o, err := parseOptions(args, stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "Error: %v\n\nHint: %q tells the options.\n", err, "keyturn demo -h")
		return 1
	}
	err = listen(ctx, o, stdout)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "Stopped; everything is cleared away.")
		return exitOf(o, err)
	case err != nil:
		fmt.Fprintf(stderr, "Error: %v\n", err)
		return 1
	}
	return 0
}

// errGone ends a demo whose output is closed.
var errGone = errors.New("the output was closed")

// listen runs the demo until its output is closed. If the reader of a pipe has gone, everything
// that was started must still be removed.
func listen(ctx context.Context, o *options, stdout io.Writer) error {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE) // a write then returns an error
	defer signal.Stop(broken)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := newPrinter(stdout)
	out.gone = func() { stop(errGone) }
	if err := runDemo(ctx, o, out); !errors.Is(context.Cause(ctx), errGone) {
		return err
	}
	return errGone
}

// exitOf returns the exit code of a demo that was interrupted, which is how a demo with -keep
// ends.
func exitOf(o *options, err error) int {
	if o.keep && err == nil {
		return 0
	}
	return 1
}
