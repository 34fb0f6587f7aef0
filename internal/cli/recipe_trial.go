package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// trialWait limits how long a live test waits until the provider accepts a new key, or refuses a
// retired one.
const trialWait = 2 * time.Minute

func recipeTest() *command {
	var live, yes bool
	return &command{
		name: "test", short: "Test a recipe", args: "FILE [K=V ...]", min: 1, max: -1, local: true,
		long: "Creates a key by a recipe, verifies it, retires it and verifies that it is dead, and\n" +
			"shows what is sent, without secrets. Nothing leaves this machine: the replies are the\n" +
			"recipe's own examples. K=V gives the recipe's params.\n\n" +
			"-live does the same at the provider, with one real key. Its admin credentials are read\n" +
			"from KEYTURN_ADMIN_<NAME>, from a file (K=@FILE), or from a prompt. The key is retired\n" +
			"at the end, also after a failure or an interruption. If it is still valid then, its ID\n" +
			"and the request that deletes it are shown.",
		examples: []example{
			{"Test a recipe with its examples:", "keyturn recipe test acme.hcl"},
			{"Test it at the provider:", "keyturn recipe test -live acme.hcl region=eu token=@token.txt"},
		},
		flags: func(f *flags) {
			f.Bool(&live, "live", "create, verify and retire one real key")
			f.Bool(&yes, "yes", "do not ask before a real key is created")
		},
		run: func(ctx context.Context, s *session) error {
			if live { // a closed terminal or pipe must not stop the program before the key is retired
				var stop context.CancelFunc
				ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
				defer stop()
				broken := make(chan os.Signal, 1)
				signal.Notify(broken, syscall.SIGPIPE) // a write then returns an error
				defer signal.Stop(broken)
			}
			t, err := newTrial(ctx, s, live)
			if err != nil {
				return err
			}
			if live && !yes {
				question := printable(
					fmt.Sprintf("This creates a real key at %s, verifies it and retires it. Go on? (yes or no) ",
						t.hosts()))
				if err := confirm(ctx, s, question); err != nil {
					return err
				}
			}
			return t.run(ctx)
		},
	}
}

// hosts returns the hosts that a live test calls.
func (t *trial) hosts() string {
	all := strings.Join(t.definition.Hosts, ", ")
	for name, value := range t.params {
		all = strings.ReplaceAll(all, "${param."+name+"}", strings.Trim(string(value), `"`))
	}
	return all
}

// confirm asks a question and fails unless the answer is yes.
func confirm(ctx context.Context, s *session, question string) error {
	fmt.Fprint(s.env.Stderr, question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(io.LimitReader(s.env.Stdin, maxAnswer)).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		if strings.TrimSpace(line) == "yes" {
			return nil
		}
	case <-ctx.Done():
	}
	fmt.Fprintln(s.env.Stderr)
	return hinted(refuse(exitLocal, "Nothing was done."), "answer yes to continue, or give -yes in scripts")
}

// A trial is one run of "recipe test".
type trial struct {
	s          *session
	definition rotation.Definition
	source     rotation.Source
	live       bool
	params     map[string]json.RawMessage
	exchanges  []rotate.Exchange // of the current step
	report     trialReport
}

// trialReport is the output of -format=json.
type trialReport struct {
	Recipe string             `json:"recipe"`
	Live   bool               `json:"live"`
	OK     bool               `json:"ok"`
	Steps  []trialStep        `json:"steps"`
	Left   []rotation.Remnant `json:"left"`
}

type trialStep struct {
	Step     string         `json:"step"`
	OK       bool           `json:"ok"`
	Found    string         `json:"found,omitempty"`
	Error    string         `json:"error,omitempty"`
	Requests []trialRequest `json:"requests,omitempty"`
}

type trialRequest struct {
	rotate.Exchange
	Query   []string `json:"query,omitempty"`
	Headers []string `json:"headers,omitempty"`
	Body    string   `json:"body,omitempty"`
}

// newTrial reads the recipe, its params and its admin credentials.
func newTrial(ctx context.Context, s *session, live bool) (*trial, error) {
	if s.env.Recipes == nil {
		return nil, notBuilt(s.line)
	}
	file := s.args[0]
	source, err := hostfile.ReadNamed(file, maxInput)
	if err != nil {
		return nil, hinted(local(err, "reading the recipe"), "\"%s recipe new NAME\" writes the beginnings of one",
			s.name)
	}
	d, err := s.env.Recipes.Parse(filepath.Base(file), source)
	if err != nil {
		return nil, local(err, "reading the recipe")
	}
	if lines := unfilledLines(string(source)); len(lines) > 0 {
		return nil, hinted(
			refuse(exitLocal, "Error: %s is not filled in: lines %s are marked with %s", file,
				strings.Join(lines, ", "), changeMark),
			"fill in what the provider's documentation says, and remove the marks")
	}
	t := &trial{
		s: s, definition: d, live: live,
		report: trialReport{Recipe: d.Name, Live: live, Steps: []trialStep{}, Left: []rotation.Remnant{}},
	}
	c := rotation.OpenConfig{Definition: d, Redactor: new(secret.Redactor),
		OnExchange: func(x rotate.Exchange) { t.exchanges = append(t.exchanges, x) }}
	given, err := t.arguments(s.args[1:])
	if err != nil {
		return nil, err
	}
	if t.params, err = t.paramValues(given); err != nil {
		return nil, err
	}
	c.Params = t.params
	if c.Admin, err = t.adminCredentials(ctx, given); err != nil {
		return nil, err
	}
	open := s.env.Recipes.OpenExamples
	if live {
		// The person at this machine may reach what runs on it; addresses of clouds' metadata stay
		// closed.
		dialer := &outbound.Dialer{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"),
			netip.MustParsePrefix("::1/128")}}
		c.Dial, open = dialer.DialContext, s.env.Recipes.Open
	}
	if t.source, err = open(c); err != nil {
		return nil, hinted(local(err, "opening the recipe"), "give params as K=V after the file")
	}
	return t, nil
}

// arguments parses the arguments K=V. Each K must be a field of the recipe.
func (t *trial) arguments(args []string) (map[string]string, error) {
	out := map[string]string{}
	var known []string
	for _, f := range slices.Concat(t.definition.Params, t.definition.Admin) {
		known = append(known, f.Name)
	}
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok || !slices.Contains(known, name) {
			err := usagef("%q is none of the recipe's fields; it has: %s", name, strings.Join(known, ", "))
			if best := fault.Nearest(name, known); best != "" {
				err = hinted(err, "did you mean %s=…?", best)
			}
			return nil, err
		}
		out[name] = value
	}
	return out, nil
}

// paramValues returns the params. A rehearsal gets placeholders for those that are missing.
func (t *trial) paramValues(given map[string]string) (map[string]json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	for _, f := range t.definition.Params {
		value, ok := given[f.Name]
		switch {
		case !ok && f.Required && !t.live:
			out[f.Name] = json.RawMessage(t.placeholder(f))
		case !ok:
		case f.Type == "string":
			out[f.Name], _ = json.Marshal(value) // marshalling a string cannot fail
		case json.Valid([]byte(value)):
			out[f.Name] = json.RawMessage(value)
		default:
			return nil, usagef("%s must be a %s, written as JSON", f.Name, f.Type)
		}
	}
	return out, nil
}

// placeholder returns a value of a param for a rehearsal.
func (t *trial) placeholder(f rotation.Field) string {
	switch {
	case f.Type == "number":
		return "1"
	case f.Type == "bool":
		return "true"
	case f.Type == "list(string)":
		return `["example"]`
	case f.Type == "map(string)":
		return `{"example":"example"}`
	case slices.Contains(t.definition.Hosts, "${param."+f.Name+"}") &&
		strings.Contains(string(t.definition.Source), "://${param."+f.Name+"}"):
		return `"api.example.com"`
	case slices.Contains(t.definition.Hosts, "${param."+f.Name+"}"):
		return `"https://api.example.com"`
	}
	return `"example"`
}

// adminCredentials returns the admin credentials. It refuses secrets in arguments, because every
// user of the machine can read these.
func (t *trial) adminCredentials(ctx context.Context, given map[string]string) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	for _, f := range t.definition.Admin {
		variable := "KEYTURN_ADMIN_" + strings.ToUpper(f.Name)
		value, ok := given[f.Name]
		file, named := strings.CutPrefix(value, "@")
		switch {
		case ok && named:
			b, err := hostfile.ReadNamed(file, maxAnswer)
			if err != nil {
				return nil, local(err, "reading %s", f.Name)
			}
			out[f.Name] = secret.Text(strings.TrimSpace(string(b)))
		case ok && f.Secret:
			return nil, hinted(usagef("%s is secret, and other users of this machine can read arguments", f.Name),
				"give %s=@FILE, or set %s",
				f.Name, variable)
		case ok:
			out[f.Name] = secret.Text(value)
		case !t.live:
			out[f.Name] = secret.Text("example-" + f.Name)
		case t.s.env.Getenv(variable) != "":
			out[f.Name] = secret.Text(t.s.env.Getenv(variable))
		default:
			v, err := t.s.prompt(ctx, printable(fmt.Sprintf("%s (%s): ", f.Name, f.Description)))
			if err != nil {
				return nil, hinted(err, "set %s, or give %s=@FILE", variable, f.Name)
			}
			out[f.Name] = v
		}
	}
	return out, nil
}

// run runs the trial and prints the result.
func (t *trial) run(ctx context.Context) error {
	run := rotation.RecipeTest{
		Definition: t.definition, Source: t.source, OnStep: t.recordStep,
		Marker: rotate.Marker{Installation: "test", Key: rotate.Tag(t.definition.Name), Turn: 1, Attempt: 1},
	}
	if t.live {
		run.Wait, run.Marker.Key = trialWait, rotate.NewTag(t.definition.Name)
	}
	left, err := run.Run(ctx)
	if !t.live {
		left = nil // nothing was real
	}
	t.report.OK = err == nil && len(left) == 0
	t.report.Left = append(t.report.Left, left...)
	done, unwritten := t.s.out.encode(t.report)
	if done && unwritten == nil {
		if !t.report.OK {
			return exitCode(exitLocal)
		}
		return nil
	}
	for _, r := range left {
		what := "a key with the label " + r.Marker
		if r.ID != "" {
			what = "the key " + r.ID + ", with the label " + r.Marker
		}
		fmt.Fprintln(t.s.env.Stderr,
			printable("WARNING! Left at the provider: "+what+": "+r.Error+". Delete it there"+t.removal(r.ID)+"."))
	}
	switch {
	case unwritten != nil:
		return unwritten
	case err != nil && ctx.Err() != nil:
		return refuse(exitLocal, "Interrupted.")
	case err != nil && !t.live:
		return hinted(refuse(exitLocal, "Error: the recipe does not pass its test."),
			"correct the step that failed, or the example of its reply in the recipe")
	case err != nil:
		return refuse(exitLocal, "Error: the recipe does not pass its test at the provider.")
	case len(left) > 0:
		return refuse(exitLocal, "Error: something was left at the provider.")
	case !t.live && !t.definition.TestsLive():
		return t.s.out.say(
			"\nSuccess! The recipe passes with its examples. Write it with: %s write rotation/recipes/%s "+
				"source=@%s", t.s.name, t.definition.Name, t.s.args[0])
	case !t.live:
		return t.s.out.say("\nSuccess! The recipe passes with its examples. Test it at the provider with -live, "+
			"then: %s write rotation/recipes/%s source=@%s", t.s.name, t.definition.Name, t.s.args[0])
	}
	return t.s.out.say("\nSuccess! One key was created, verified and retired. Write the recipe with: %s write "+
		"rotation/recipes/%s source=@%s", t.s.name, t.definition.Name, t.s.args[0])
}

// removal names the request with which the recipe deletes the key, if the trial has sent it.
func (t *trial) removal(id string) string {
	for _, step := range slices.Backward(t.report.Steps) {
		if step.Step == "retire" && id != "" && len(step.Requests) > 0 {
			x := step.Requests[len(step.Requests)-1].Exchange
			return fmt.Sprintf(", as the recipe does (%s %s%s), or by hand", x.Method, x.Host, x.Path)
		}
	}
	return ""
}

// recordStep adds a step to the report, and prints it for people.
func (t *trial) recordStep(step, found string, err error) {
	exchanges := t.exchanges
	t.exchanges = nil
	one := trialStep{Step: step, OK: err == nil, Found: found}
	if err != nil {
		one.Error = describe(err)
	}
	for _, x := range exchanges {
		one.Requests = append(one.Requests,
			trialRequest{Exchange: x, Query: x.Query, Headers: x.Headers, Body: x.Body})
	}
	t.report.Steps = append(t.report.Steps, one)
	var b strings.Builder
	fmt.Fprintln(&b, step)
	for _, x := range exchanges {
		writeExchange(&b, x)
	}
	if err != nil {
		fmt.Fprintf(&b, "  FAILED: %s\n", one.Error)
	} else {
		fmt.Fprintf(&b, "  ok: %s\n", cmp.Or(found, "done"))
	}
	_ = t.s.out.say("%s", strings.TrimSuffix(b.String(), "\n")) // the error of the last write is reported
}

// writeExchange shows a request and its reply.
func writeExchange(b *strings.Builder, x rotate.Exchange) {
	if x.Connection != "" {
		writeCall(b, x)
		return
	}
	query := ""
	if len(x.Query) > 0 {
		query = "?" + strings.Join(x.Query, "=…&") + "=…"
	}
	fmt.Fprintf(b, "  %s %s%s%s\n", x.Method, x.Host, x.Path, query)
	for _, line := range slices.Concat(x.Headers, lines(x.Body)) {
		fmt.Fprintf(b, "    %s\n", line)
	}
	switch {
	case x.Status == 0:
		fmt.Fprintf(b, "  no reply: %s\n", x.Error)
	default:
		fmt.Fprintf(b, "  %d after %s\n", x.Status, x.Took)
		for _, line := range lines(x.Reply) {
			fmt.Fprintf(b, "    %s\n", line)
		}
	}
}

// writeCall writes what a database answered.
func writeCall(b *strings.Builder, x rotate.Exchange) {
	switch {
	case x.Error == "":
		fmt.Fprintf(b, "  connection %s: done after %s\n", x.Connection, x.Took)
		return
	case x.Code == "":
		fmt.Fprintf(b, "  connection %s: failed after %s\n", x.Connection, x.Took)
	default:
		fmt.Fprintf(b, "  connection %s: refused after %s: %s\n", x.Connection, x.Took, x.Code)
	}
	for _, line := range slices.Concat(lines(x.Error), lines(x.Reply)) {
		fmt.Fprintf(b, "    %s\n", line)
	}
}

// lines returns the lines of a text; an empty text has none.
func lines(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
