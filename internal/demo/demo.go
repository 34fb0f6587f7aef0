// Package demo is `keyturn demo`: it shows Keyturn at work on one machine, with
// everything that this takes.
//
// It starts a server of the same binary on embedded storage, a provider of keys
// ([keyserver]), and a consumer that calls the provider all the time with the key that it
// reads from the server. Then keys turn: on demand, back again on purpose, and
// through a SIGKILL of the server in the middle of a turn. Where PostgreSQL is
// installed, a throwaway one lends users that live for seconds. Each step is told as it
// happens; a table at the end says what was seen and what should have been, and
// the exit code whether they agree.
//
// Everything lives in temporary folders and on free ports of the loopback
// address, and is gone afterwards. The story is told by one goroutine; the
// consumer and the database's part run beside it and say what happens to them through the
// one [printer].
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

// options are the flags of `keyturn demo`.
type options struct {
	keep       bool
	noPostgres bool
}

const usage = `Usage: keyturn demo [options]

  Shows the rotation of a key, with everything built in: a server on embedded
  storage, a provider that issues keys, and a consumer that calls the provider all
  the time. The key is rotated three times. One more rotation is rolled back on
  purpose, and the server is killed in the middle of another. If PostgreSQL is
  installed, database users are issued that live for seconds. The demo takes about
  a minute, needs only this program, and leaves nothing behind.

Options:

`

// Command is `keyturn demo`, as the command line calls it. It returns the exit
// code: 1 if anything fell short.
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

// errGone is why a demo ends that nobody reads.
var errGone = errors.New("the output was closed")

// listen tells the story for as long as somebody reads it: when a pipe's other
// end has gone, what was started must be cleared away, too.
func listen(ctx context.Context, o *options, stdout io.Writer) error {
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE) // so that writing returns an error
	defer signal.Stop(broken)
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	out := newPrinter(stdout)
	out.gone = func() { stop(errGone) }
	if err := tell(ctx, o, out); !errors.Is(context.Cause(ctx), errGone) {
		return err
	}
	return errGone
}

// exitOf is the exit code of a demo that was stopped from outside, which is how
// one with -keep ends.
func exitOf(o *options, err error) int {
	if o.keep && err == nil {
		return 0
	}
	return 1
}

func parseOptions(args []string, stdout io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&o.keep, "keep", false, "leave everything running at the end, until Ctrl-C, and print addresses and tokens")
	f.BoolVar(&o.noPostgres, "no-postgres", false, "leave the database's part out")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return nil, err
	case err != nil:
		return nil, err
	case f.NArg() > 0:
		return nil, fmt.Errorf("demo takes no arguments, but got %q", f.Arg(0))
	}
	return o, nil
}
