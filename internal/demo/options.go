package demo

import (
	"errors"
	"flag"
	"fmt"
	"io"
)

// options are the flags of `keyturn demo`.
type options struct {
	keep       bool
	noPostgres bool
}

func parseOptions(args []string, stdout io.Writer) (*options, error) {
	o := new(options)
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&o.keep, "keep", false,
		"leave everything running at the end, until Ctrl-C, and print addresses and tokens")
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

const usage = `Usage: keyturn demo [options]

  Shows the rotation of a key, with everything built in: a server on embedded
  storage, a provider that issues keys, and a consumer that calls the provider all
  the time. The key is rotated three times. One more rotation is rolled back on
  purpose, and the server is killed in the middle of another. If PostgreSQL is
  installed, database users are issued that live for seconds. The demo takes about
  a minute, needs only this program, and leaves nothing behind.

Options:

`
