package recipe

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// openExamples opens a source whose requests are answered from the recipe's examples.
func openExamples(c rotation.OpenConfig) (rotation.Source, error) {
	examples := &exampleReplies{}
	s, err := open(c, examples)
	if err != nil {
		return nil, err
	}
	examples.source = s
	return &exampleSource{s, examples}, nil
}

// An exampleSource is a source that records which key it created and whether that key is retired.
type exampleSource struct {
	*source
	examples *exampleReplies
}

// Create implements [rotation.Source].
func (r *exampleSource) Create(ctx context.Context, o rotate.Order) (rotate.Credential, error) {
	if o.Current == "" {
		o.Current = "example"
	}
	r.examples.set(func(e *exampleReplies) { e.marker = o.Marker.String() })
	c, err := r.source.Create(ctx, o)
	if err == nil {
		r.examples.set(func(e *exampleReplies) { e.id, e.dead = c.ID, false })
	}
	return c, err
}

// Retire implements [rotation.Source].
func (r *exampleSource) Retire(ctx context.Context, id string) error {
	err := r.source.Retire(ctx, id)
	if err == nil {
		r.examples.set(func(e *exampleReplies) { e.dead = true })
	}
	return err
}

// exampleReplies answers requests with the example replies of the recipe.
type exampleReplies struct {
	source *source

	mu     sync.Mutex // guards the rest
	marker string
	id     string
	dead   bool // the key that was created is retired
}

func (e *exampleReplies) set(f func(e *exampleReplies)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(e)
}

// RoundTrip implements [http.RoundTripper].
func (e *exampleReplies) RoundTrip(r *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	made, ok := r.Context().Value(requestInfoKey{}).(*requestInfo)
	if !ok {
		return nil, errConnectionCut
	}
	e.mu.Lock()
	vars := scope{"marker": cty.StringVal(e.marker),
		"key": cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(e.id)})}.with(made.vars)
	dead := e.dead
	e.mu.Unlock()
	st := made.step
	expr, status := st.example, st.status[0]
	if verify := e.source.recipe.verify; verify != nil && st == &verify.step && dead {
		expr, status = verify.exampleRefused, http.StatusUnauthorized
	}
	answer := &http.Response{StatusCode: status, Header: http.Header{}, Body: http.NoBody, Request: r}
	if st.auth != nil && st.auth.kind == "digest" && r.Header.Get("Authorization") == "" {
		answer.StatusCode = http.StatusUnauthorized
		answer.Header.Set("WWW-Authenticate", `Digest realm="example", nonce="example", qop="auth", algorithm=SHA-256`)
		return answer, nil
	}
	if expr == nil {
		return answer, nil
	}
	v, err := e.source.eval.value(expr, vars)
	if err != nil {
		return nil, err
	}
	return answer, setReply(answer, v, position(expr.Range()))
}

// setReply copies the value of an example into a reply.
func setReply(answer *http.Response, v cty.Value, at string) error {
	wrong := fault.New("recipe.example", fault.Invalid, "%s: the example is not a reply; write an object such as { "+
		"status = 200, json = { … } }, with status, json, body and headers", at)
	if v.IsNull() || !v.Type().IsObjectType() {
		return wrong
	}
	for name, part := range v.AsValueMap() {
		switch name {
		case "status":
			if part.Type() != cty.Number || part.IsNull() {
				return wrong
			}
			n, _ := part.AsBigFloat().Int64()
			if n < 100 || n > 599 {
				return wrong
			}
			answer.StatusCode = int(n)
		case "json":
			text, err := ctyjson.Marshal(part, part.Type())
			if err != nil {
				return wrong
			}
			answer.Header.Set("Content-Type", "application/json")
			answer.Body = io.NopCloser(bytes.NewReader(text))
		case "body":
			text, ok, err := text(part)
			if err != nil || !ok {
				return wrong
			}
			answer.Body = io.NopCloser(strings.NewReader(text))
		case "headers":
			if part.IsNull() || !part.Type().IsObjectType() {
				return wrong
			}
			for header, value := range part.AsValueMap() {
				text, ok, err := text(value)
				if err != nil || !ok {
					return wrong
				}
				answer.Header.Set(header, text)
			}
		default:
			return wrong
		}
	}
	return nil
}
