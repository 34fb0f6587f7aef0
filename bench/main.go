// Command bench compares keyturn with a limit: a bare net/http server that sends the same bytes,
// one that also commits the same keys and writes the same audit bytes, and PostgreSQL's own
// pgbench. Each row is a ratio of runs in turns, because absolute figures depend on the machine
// and its other loads.
//
//	go run ./bench -run read -rounds 5
//
// Each server is a process of its own; the client is in this process. keyturn runs as in
// production: pebble on a real disk, the seal "static", a token with a policy that is not root's
// and, unless the row says otherwise, an audit file.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// A row measures one thing, or several that share a setup.
type row struct {
	name string
	what string
	run  func(ctx context.Context, b *bench) ([]result, error)
}

var rows = []row{
	{"read", "KV v2 read with an audit device", benchReadAudited},
	{"read-unaudited", "KV v2 read without", benchRead},
	{"write", "KV v2 write", benchWrite},
	{"token", "token create", benchToken},
	{"postgres", "PostgreSQL credentials", benchPostgres},
	{"start", "start of an empty server", benchStart},
	{"expiry", "KV reads while many leases end at once", benchExpiry},
	{"lateness", "how late leases end, 2,000 a second, at a target that answers in 5 ms", benchLateness},
	{"rotations", "how late passwords are changed, 100 a second, while many are scheduled", benchRotations},
	{"leases", "memory, disk and restart with many leases", benchLeases},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 && child(ctx, os.Args[1]) {
		return
	}
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	b := &bench{log: os.Stderr}
	only := flag.String("run", "", "`rows` to run, by commas; all if empty: "+names())
	asJSON := flag.Bool("json", false, "print JSON")
	dir := flag.String("dir", "", "`folder` to work in, on a real disk; the system's for temporary files if empty")
	flag.StringVar(&b.binary, "binary", "bin/keyturn", "the keyturn to measure")
	flag.IntVar(&b.rounds, "rounds", 5, "how often the servers of a row take turns")
	flag.DurationVar(&b.round, "round", 2*time.Second, "length of one turn")
	flag.IntVar(&b.conns, "conns", 64, "connections, each with one request under way")
	flag.IntVar(&b.leases, "leases", 1_000_000, "how many leases the row leases stores")
	flag.IntVar(&b.expiring, "expiring", 50_000, "how many leases the row expiry lets end at once")
	flag.IntVar(&b.things, "scheduled", 100_000, "how many passwords the row rotations schedules")
	flag.StringVar(&b.profile, "profile", "",
		"`folder` for CPU and memory profiles of keyturn, which then runs from this program")
	flag.Parse()
	var err error
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if _, err := os.Stat(b.binary); err != nil && b.profile == "" {
		return fmt.Errorf("%w; build it first: make build", err)
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp(*dir, "kt-bench-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(b.dir) }() // the system cleans its temporary folder
	var all []result
	for _, r := range chosen {
		fmt.Fprintf(b.log, "%s …\n", r.what)
		got, err := r.run(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		all = append(all, got...)
	}
	if *asJSON {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	return show(os.Stdout, all)
}

func names() string {
	var all []string
	for _, r := range rows {
		all = append(all, r.name)
	}
	return strings.Join(all, ", ")
}

func choose(only string) ([]row, error) {
	if only == "" {
		return rows, nil
	}
	var chosen []row
	for name := range strings.SplitSeq(only, ",") {
		n := len(chosen)
		for _, r := range rows {
			if r.name == strings.TrimSpace(name) {
				chosen = append(chosen, r)
			}
		}
		if len(chosen) == n {
			return nil, fmt.Errorf("there is no row %q; there is %s", name, names())
		}
	}
	return chosen, nil
}

func show(w io.Writer, all []result) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tkeyturn\tagainst\tunit\tratio\tbudget\tmet?")
	for _, r := range all {
		if r.Skipped != "" {
			fmt.Fprintf(t, "%s\t–\t–\t%s\t–\t%s\tskipped: %s\n", r.Row, r.Unit, r.Budget, r.Skipped)
			continue
		}
		against, ratio, met := "–", "–", "yes"
		if r.Against != 0 {
			against = fmt.Sprintf("%.*f", r.decimals, r.Against)
		}
		if r.Ratio != 0 {
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		if !r.Met {
			met = "NO"
		}
		fmt.Fprintf(t, "%s\t%.*f\t%s\t%s\t%s\t%s\t%s\n", r.Row, r.decimals, r.Keyturn, against, r.Unit, ratio,
			r.Budget, met)
	}
	return t.Flush()
}
