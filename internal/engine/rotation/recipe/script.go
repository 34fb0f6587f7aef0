package recipe

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"reflect"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

// A script holds recorded exchanges: the requests of a recipe, the provider's replies, and the
// results that the engine derived from them.
type script struct {
	Params map[string]json.RawMessage `json:"params"`
	Admin  map[string]secret.Value    `json:"admin"`
	Steps  []scriptStep               `json:"steps"`
}

// A scriptStep is one call of a source. "verify" and "verify dead" use the credential that was
// created last.
type scriptStep struct {
	Call      string     `json:"call"` // "create", "verify", "verify dead", "list", "last used", "disable", "retire"
	Marker    string     `json:"marker"`
	Current   string     `json:"current"`
	ID        string     `json:"id"`
	Exchanges []exchange `json:"exchanges"`
	Want      scriptWant `json:"want"`
}

type exchange struct {
	Request scriptRequest `json:"request"`
	Reply   scriptReply   `json:"reply"`
}

type scriptRequest struct {
	Method  string            `json:"method"`
	URL     string            `json:"url"`
	Headers map[string]string `json:"headers"` // those that matter
	JSON    json.RawMessage   `json:"json"`
	Body    string            `json:"body"`
}

type scriptReply struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	JSON    json.RawMessage   `json:"json"`
	Body    string            `json:"body"`
	Cut     bool              `json:"cut"` // no reply: the connection ends
}

// scriptWant is the expected result of a call, or the expected outcome of its failure.
type scriptWant struct {
	Outcome  string                  `json:"outcome"`
	Retry    float64                 `json:"retry_after"` // seconds
	ID       string                  `json:"id"`
	Secret   map[string]secret.Value `json:"secret"`
	Public   map[string]string       `json:"public"`
	Keys     []string                `json:"keys"` // of a list: id and label, separated by a space
	LastUsed string                  `json:"last_used"`
}

// replayScript replays a script against a definition. Every call that the recipe supports must
// succeed at least once, so that no block stays untested.
func replayScript(ctx context.Context, d rotation.Definition, text []byte) error {
	var sc script
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&sc); err != nil {
		return fault.New("recipe.Replay", fault.Invalid, "the script cannot be read: %v", err)
	}
	replay := &replay{}
	s, err := open(rotation.OpenConfig{Definition: d, Params: sc.Params, Admin: sc.Admin}, replay)
	if err != nil {
		return err
	}
	run := scriptRun{source: s, replay: replay, succeeded: map[string]bool{}}
	for i, step := range sc.Steps {
		if err := run.step(ctx, step); err != nil {
			return fault.New("recipe.Replay", fault.Invalid, "step %d, %s: %s", i+1, step.Call,
				s.eval.redactor.Error(err))
		}
	}
	for _, call := range s.calls() {
		if !run.succeeded[call] {
			return fault.New("recipe.Replay", fault.Invalid, "the script has no step %q that succeeds; add one", call)
		}
	}
	return nil
}

// calls lists the calls that the recipe supports, by their names in scripts.
func (s *source) calls() []string {
	out := []string{"create", "retire"}
	if s.recipe.verify != nil {
		out = append(out, "verify", "verify dead")
	}
	for call, there := range map[string]bool{
		"list": s.recipe.def.Can.List, "last used": s.recipe.def.Can.LastUsed, "disable": s.recipe.def.Can.Disable,
	} {
		if there {
			out = append(out, call)
		}
	}
	return out
}

// A scriptRun replays one script.
type scriptRun struct {
	source    *source
	replay    *replay
	last      rotate.Credential
	succeeded map[string]bool
}

func (p *scriptRun) step(ctx context.Context, step scriptStep) error {
	p.replay.left, p.replay.wrong = step.Exchanges, nil
	err := p.call(ctx, step)
	switch {
	case p.replay.wrong != nil:
		return p.replay.wrong
	case len(p.replay.left) > 0:
		return fmt.Errorf("%d of the exchanges did not happen (%v)", len(p.replay.left), err)
	case err == nil && step.Want.Outcome != "":
		return fmt.Errorf("succeeded, want outcome %s", step.Want.Outcome)
	case err == nil:
		p.succeeded[step.Call] = true
		return nil
	}
	if mismatch, ok := errors.AsType[*mismatch](err); ok {
		return mismatch
	}
	if got := rotate.OutcomeOf(err).String(); got != step.Want.Outcome {
		return fmt.Errorf("outcome %s (%w), want %s", got, err, step.Want.Outcome)
	}
	f, _ := errors.AsType[*rotate.Failure](err)
	if want := step.Want.Retry; f != nil && f.RetryAfter.Seconds() != want {
		return fmt.Errorf("the provider asks for a retry after %v, want %v seconds", f.RetryAfter, want)
	}
	return nil
}

// A mismatch is a result that differs from the script.
type mismatch struct{ text string }

func (m *mismatch) Error() string { return m.text }

// compare returns nil if got equals want, and a mismatch otherwise.
func compare(what string, got, want any) error {
	if reflect.DeepEqual(got, want) {
		return nil
	}
	return &mismatch{fmt.Sprintf("%s: got %v, want %v", what, got, want)}
}

func (p *scriptRun) call(ctx context.Context, step scriptStep) error {
	switch step.Call {
	case "create":
		return p.create(ctx, step)
	case "verify":
		return p.source.Verify(ctx, p.last)
	case "verify dead":
		return p.source.VerifyDead(ctx, p.last)
	case "list":
		keys, err := p.source.List(ctx)
		if err != nil {
			return err
		}
		var got []string
		for _, k := range keys {
			got = append(got, strings.TrimSpace(k.ID+" "+k.Label))
		}
		return compare("keys", got, step.Want.Keys)
	case "last used":
		used, err := p.source.LastUsed(ctx, step.ID)
		if err != nil {
			return err
		}
		got := ""
		if !used.IsZero() {
			got = used.Format(time.RFC3339)
		}
		return compare("last use", got, step.Want.LastUsed)
	case "disable":
		return p.source.Disable(ctx, step.ID)
	case "retire":
		return p.source.Retire(ctx, step.ID)
	}
	return &mismatch{"the call is not known"}
}

func (p *scriptRun) create(ctx context.Context, step scriptStep) error {
	marker, ok := rotate.ParseMarker(step.Marker)
	if !ok {
		return &mismatch{fmt.Sprintf("marker %q is not valid", step.Marker)}
	}
	c, err := p.source.Create(ctx, rotate.Order{Marker: marker, Current: step.Current})
	if err != nil {
		return err
	}
	p.last = c
	if err := compare("id", c.ID, step.Want.ID); err != nil {
		return err
	}
	equal := maps.EqualFunc(c.Secret, step.Want.Secret, secret.Value.Equal)
	if err := compare("the secrets are as wanted", equal, true); err != nil {
		return err
	}
	if len(c.Public) == 0 && len(step.Want.Public) == 0 {
		return nil
	}
	return compare("public", c.Public, step.Want.Public)
}

// A replay answers requests with a script's replies, in order.
type replay struct {
	left  []exchange
	wrong error // the first request that was not as recorded
}

var errConnectionCut = errors.New("the connection was cut")

// RoundTrip implements [http.RoundTripper].
func (p *replay) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	var sent []byte
	if r.Body != nil {
		var err error
		if sent, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	if len(p.left) == 0 {
		p.fail("there was one request more than recorded: %s %s", r.Method, r.URL)
		return nil, errConnectionCut
	}
	next := p.left[0]
	p.left = p.left[1:]
	p.compare(r, sent, next.Request)
	if next.Reply.Cut {
		return nil, errConnectionCut
	}
	content := []byte(next.Reply.Body)
	header := http.Header{}
	if len(next.Reply.JSON) > 0 {
		content = next.Reply.JSON
		header.Set("Content-Type", "application/json")
	}
	for name, value := range next.Reply.Headers {
		header.Set(name, value)
	}
	return &http.Response{StatusCode: next.Reply.Status, Header: header, Body: io.NopCloser(bytes.NewReader(content)),
		Request: r}, nil
}

func (p *replay) fail(format string, args ...any) {
	if p.wrong == nil {
		p.wrong = fmt.Errorf(format, args...)
	}
}

// compare fails the replay if a request differs from the recorded one.
func (p *replay) compare(r *http.Request, sent []byte, want scriptRequest) {
	if r.Method != want.Method || r.URL.String() != want.URL {
		p.fail("request: got %s %s, want %s %s", r.Method, r.URL, want.Method, want.URL)
	}
	for name, value := range want.Headers {
		if got := r.Header.Get(name); got != value {
			p.fail("header %s: got %q, want %q", name, got, value)
		}
	}
	if len(want.JSON) == 0 {
		if string(sent) != want.Body {
			p.fail("body: got %q, want %q", sent, want.Body)
		}
		return
	}
	var got, wanted any
	if json.Unmarshal(sent, &got) != nil || json.Unmarshal(want.JSON, &wanted) != nil ||
		!reflect.DeepEqual(got, wanted) {
		p.fail("body: got %s, want %s", sent, want.JSON)
	}
}
