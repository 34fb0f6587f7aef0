package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// An event is a line of "go test -json", as "go doc test2json" describes it.
type event struct {
	Action     string
	Package    string
	ImportPath string // the package that is built, in build-output and build-fail
	Test       string
	Output     string
	Elapsed    float64 // seconds
}

// A result is a test or package with its output.
type result struct {
	test string
	text string
	took time.Duration
}

// A tally counts the results of a part, or of all parts.
type tally struct {
	passed  int
	failed  []result
	skipped []result
}

func (t *tally) add(u tally) {
	t.passed += u.passed
	t.failed = append(t.failed, u.failed...)
	t.skipped = append(t.skipped, u.skipped...)
}

func (t *tally) counts() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, len(t.failed), len(t.skipped))
}

// report prints the skipped and the failed tests.
func (t *tally) report(w io.Writer) {
	fmt.Fprintln(w)
	for _, r := range t.skipped {
		fmt.Fprintf(w, "SKIPPED %s: %s\n", r.test, reason(r.text))
	}
	for _, r := range t.failed {
		fmt.Fprintf(w, "\nFAILED %s\n%s", r.test, r.text)
	}
	fmt.Fprintln(w)
}

// reason returns the reason of a skip: the last line of the test's output that is no report of
// progress.
func reason(text string) string {
	why := "it gives no reason"
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			why = line
		}
	}
	return why
}

// A reader counts the events of one run of go test.
type reader struct {
	tally   tally
	outputs map[string]*strings.Builder // by test, package and build
	failing map[string]bool             // packages with a failed test
	broken  map[string]bool             // packages that do not build
	done    func(result)                // called for each package that ended
}

// readEvents reads the events of a run. It calls done for each package with tests, with "FAIL" or
// "" as its text.
func readEvents(r io.Reader, done func(result)) (tally, error) {
	d := &reader{outputs: map[string]*strings.Builder{}, failing: map[string]bool{}, broken: map[string]bool{},
		done: done}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				// A message of go itself, for example that it cannot find a package.
				e = event{Action: "output", Output: string(line)}
			}
			d.take(e)
		}
		if err == io.EOF {
			return d.tally, nil
		}
		if err != nil {
			return d.tally, fmt.Errorf("reading the events of go test: %w", err)
		}
	}
}

func (d *reader) take(e event) {
	name := e.Package
	if e.Test != "" {
		name += " " + e.Test
	}
	switch e.Action {
	case "output":
		d.output(name).WriteString(e.Output)
	case "build-output":
		d.output(e.ImportPath).WriteString(e.Output)
	case "build-fail":
		d.broken[e.ImportPath] = true
	case "pass", "skip", "fail":
		text := d.output(name).String()
		delete(d.outputs, name)
		d.end(e, result{test: name, text: text, took: time.Duration(e.Elapsed * float64(time.Second))})
	}
}

func (d *reader) output(name string) *strings.Builder {
	if d.outputs[name] == nil {
		d.outputs[name] = &strings.Builder{}
	}
	return d.outputs[name]
}

// end counts a test or package that has ended.
func (d *reader) end(e event, r result) {
	switch {
	case e.Test != "" && e.Action == "pass":
		d.tally.passed++
	case e.Test != "" && e.Action == "skip":
		d.tally.skipped = append(d.tally.skipped, r)
	case e.Test != "":
		d.failing[e.Package] = true
		d.tally.failed = append(d.tally.failed, r)
	case e.Action == "pass":
		d.done(result{test: r.test, took: r.took})
	case e.Action == "fail":
		// A package can fail without a failed test, if it does not build or its process ends
		// early.
		if !d.failing[e.Package] {
			for built := range d.broken {
				if strings.HasPrefix(built, e.Package) {
					r.text += d.output(built).String()
				}
			}
			d.tally.failed = append(d.tally.failed, r)
		}
		d.done(result{test: r.test, took: r.took, text: "FAIL"})
	}
}
