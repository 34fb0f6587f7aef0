// Package conformance replays suites of HTTP exchanges against a server with Vault's HTTP API, and
// compares each answer with that of a reference server.
//
// A suite is a JSON file in testdata. Each of its steps sends one request. "capture" saves values
// of the answer as variables for later steps ("{{$name}}" in a path, a body, a header or a token).
// "want" is the answer of the reference in a normal form: values that differ from run to run
// (times, IDs, tokens, passwords) are replaced by a marker of their form, such as "<uuid>". Texts
// of errors, warnings and descriptions are not recorded; of an error, only status and form are
// compared. Fields that only our answer has are allowed.
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// Load reads a suite from a file.
func Load(path string) (*Suite, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s Suite
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, st := range s.Steps {
		if st.Want == nil {
			return nil, fmt.Errorf("%s: step %d has no recorded answer", path, i)
		}
	}
	return &s, nil
}

// Label returns a description of the step: method, path and name.
func (s *Step) Label() string {
	label := s.Method + " " + s.Path
	if s.Name != "" {
		label += " (" + s.Name + ")"
	}
	return label
}

// Replay sends the request of a step, and returns the differences between the answer and the
// recorded one.
func (s *Session) Replay(ctx context.Context, st *Step) ([]string, error) {
	select {
	case <-time.After(time.Duration(st.SleepMS) * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	got, err := s.send(ctx, st)
	if err != nil {
		return nil, err
	}
	return compare(st, got), nil
}

// client does not follow redirects, because the suites record them.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (s *Session) send(ctx context.Context, st *Step) (*Answer, error) {
	body := st.Raw
	if st.Body != nil {
		body = string(st.Body)
	}
	req, err := http.NewRequestWithContext(ctx, st.Method, s.Address+"/v1/"+s.expand(st.Path),
		strings.NewReader(s.expand(body)))
	if err != nil {
		return nil, err
	}
	switch token := s.expand(st.Token); token {
	case "":
		req.Header.Set("X-Vault-Token", s.Root)
	case "none":
	default:
		req.Header.Set("X-Vault-Token", token)
	}
	req.Header.Set("X-Vault-Request", "true")
	for k, v := range st.Headers {
		req.Header.Set(k, s.expand(v))
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	a := &Answer{Status: res.StatusCode}
	if len(bytes.TrimSpace(b)) == 0 {
		return a, nil
	}
	var raw any
	if err := json.Unmarshal(b, &raw); err != nil {
		a.Body = "<not json>"
		return a, nil
	}
	s.capture(st, raw)
	a.Body = s.normal(raw)
	return a, nil
}

func (s *Session) expand(text string) string {
	for k, v := range s.Vars {
		text = strings.ReplaceAll(text, "{{$"+k+"}}", v)
	}
	return text
}

func (s *Session) capture(st *Step, answer any) {
	for name, path := range st.Capture {
		x := lookup(answer, path)
		text, ok := x.(string)
		if !ok {
			j, _ := json.Marshal(x)
			text = string(j)
		}
		s.Vars[name] = text
	}
}
