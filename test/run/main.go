// Command run is "make test". It runs every part of the tests and prints one count at the end.
//
//	go run ./test/run [-list] [PART...]
//
// A part that fails does not stop the next one. The end lists each skipped test with its reason
// and each failed test with its output; the last line is "N passed, N failed, N skipped". A test
// and each of its subtests count as one. The exit status is 0 if something passed and nothing
// failed.
package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	list := flag.Bool("list", false, "print the parts and their commands, and run nothing")
	flag.Parse()
	chosen, err := choose(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if *list {
		for _, p := range chosen {
			fmt.Printf("%-10s %s\n", p.name, p.about)
		}
		return
	}
	if !run(ctx, chosen, os.Stdout) {
		stop()
		os.Exit(1)
	}
}

// choose returns the parts with these names in their order; without names, all parts.
func choose(names []string) ([]part, error) {
	all, err := parts()
	if err != nil || len(names) == 0 {
		return all, err
	}
	for _, n := range names {
		if !slices.ContainsFunc(all, func(p part) bool { return p.name == n }) {
			return nil, fmt.Errorf("run: no part is named %s; the parts are %s", n, strings.Join(partNames(all), ", "))
		}
	}
	return slices.DeleteFunc(all, func(p part) bool { return !slices.Contains(names, p.name) }), nil
}

func partNames(ps []part) []string {
	var names []string
	for _, p := range ps {
		names = append(names, p.name)
	}
	return names
}

// run runs the parts and prints the results. It reports whether all passed.
func run(ctx context.Context, ps []part, w io.Writer) bool {
	var total tally
	for i, p := range ps {
		fmt.Fprintf(w, "\n=== %d of %d: %s: %s\n", i+1, len(ps), p.name, p.about)
		began := time.Now()
		t, processor := p.run(ctx, w)
		fmt.Fprintf(w, "=== %s: %s in %s, %s of processor time\n", p.name, t.counts(),
			time.Since(began).Round(time.Second), processor.Round(time.Second))
		total.add(t)
		if ctx.Err() != nil {
			total.failed = append(total.failed, result{test: "all that was to follow", text: "interrupted\n"})
			break
		}
	}
	total.report(w)
	fmt.Fprintf(w, "%s\n", total.counts())
	return len(total.failed) == 0 && total.passed > 0
}

// run runs the part and returns the results and the processor time.
func (p part) run(ctx context.Context, w io.Writer) (tally, time.Duration) {
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), p.environ...)
	// After an interrupt, go test still stops the servers of its tests.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	var t tally
	var err error
	if p.tests() {
		t, err = runTests(cmd, w)
	} else {
		t, err = runCheck(cmd, p.name, w)
	}
	if err != nil {
		t.failed = append(t.failed, result{test: p.name, text: err.Error() + "\n"})
	}
	var processor time.Duration
	if s := cmd.ProcessState; s != nil {
		processor = s.UserTime() + s.SystemTime()
	}
	return t, processor
}

// runCheck runs a command that counts as one test.
func runCheck(cmd *exec.Cmd, name string, w io.Writer) (tally, error) {
	var kept bytes.Buffer
	cmd.Stdout = io.MultiWriter(w, &kept)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		return tally{}, fmt.Errorf("%s%w", kept.String(), err)
	}
	return tally{passed: 1}, nil
}

// runTests runs a command that prints the events of "go test -json".
func runTests(cmd *exec.Cmd, w io.Writer) (tally, error) {
	events, err := cmd.StdoutPipe()
	if err != nil {
		return tally{}, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return tally{}, err
	}
	t, err := readEvents(events, func(pkg result) {
		fmt.Fprintf(w, "%-5s %6.1fs  %s\n", cmp.Or(pkg.text, "ok"), pkg.took.Seconds(), pkg.test)
	})
	if err != nil {
		_, _ = io.Copy(io.Discard, events) // so that the command can end; the error is reported
	}
	ended := cmd.Wait()
	if err == nil && ended != nil && len(t.failed) == 0 {
		err = fmt.Errorf("%s%w, though no test failed", stderr.String(), ended)
	}
	return t, err
}
