package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A usageError is a mistake in what was typed.
type usageError struct{ err error }

func (e usageError) Error() string { return "Error: " + e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// A failure is what went wrong while doing something. It knows the exit code.
type failure struct {
	code  int
	doing string
	err   error
}

func (e *failure) Error() string { return "Error " + e.doing + ": " + describe(e.err) }
func (e *failure) Unwrap() error { return e.err }

// remote says what was asked of the server when err came back. It returns nil
// for a nil err.
func remote(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	return &failure{exitRemote, fmt.Sprintf(doing, args...), err}
}

// local is remote for what goes wrong on this machine.
func local(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	return &failure{exitLocal, fmt.Sprintf(doing, args...), err}
}

// A refusal ends a command with a line of its own and a code.
type refusal struct {
	code int
	text string
}

func (e refusal) Error() string { return e.text }

// A nothing ends a command where the server has nothing.
type nothing struct{ error }

func (e nothing) Unwrap() error { return e.error }

func nothingAt(format string, args ...any) error {
	return nothing{refusal{exitRemote, "No value found at " + fmt.Sprintf(format, args...)}}
}

// mayNot reports whether a request was refused because the token may not make it.
func mayNot(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusForbidden
}

// notThere reports whether err is the answer that there is nothing at a path.
func notThere(err error) bool {
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode == http.StatusNotFound
	}
	_, none := errors.AsType[nothing](err)
	return none
}

// An exitCode ends a command that has said all that it has to say.
type exitCode int

func (exitCode) Error() string { return "" }

// printRequest prints the curl line, or the policy, that was asked for in place
// of the request: the API library ends a command with an error where it would have
// sent one.
func (s *session) printRequest(ctx context.Context, err error) error {
	var curl *api.OutputStringError
	var policy *api.OutputPolicyError
	switch {
	case errors.As(err, &curl):
		line, err := s.curlLine(curl)
		if err != nil {
			return local(err, "writing the request as a curl command")
		}
		for _, a := range s.client.later {
			fmt.Fprintf(s.env.Stderr, "The command then sends: %s %s\n", a.op, a.path)
		}
		return s.out.write(line + "\n")
	case errors.As(err, &policy):
		return s.out.write(s.client.policyFor(ctx, append([]ask{s.client.last}, s.client.later...)) + "\n")
	}
	return err
}

// report writes err and what to do about it to standard error and returns the
// exit code.
func (s *session) report(ctx context.Context, err error) int {
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(s.env.Stderr, withoutPassword(harmless(err.Error())))
	for _, next := range hints(ctx, s, err) {
		fmt.Fprintf(s.env.Stderr, "\nHint: %s\n", harmless(next))
	}
	return codeOf(err)
}

// passwords are those in addresses, https://name:password@host.
var passwords = regexp.MustCompile(`(://[^\s/@:"]*):[^/@"]*@`)

// withoutPassword is text without the passwords of the addresses in it: errors
// end in logs. The API library and url.Parse show them.
func withoutPassword(text string) string { return passwords.ReplaceAllString(text, "$1:***@") }

func codeOf(err error) int {
	var f *failure
	var r refusal
	switch {
	case errors.As(err, &f):
		return f.code
	case errors.As(err, &r):
		return r.code
	}
	return exitLocal
}

// describe is err's text; an answer from the server is laid out in lines.
func describe(err error) string {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return err.Error()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Error making API request.\n\n")
	if ns := answer.NamespacePath; ns != "" && ns != "root/" {
		fmt.Fprintf(&b, "Namespace: %s\n", ns)
	}
	fmt.Fprintf(&b, "URL: %s %s\n", answer.HTTPMethod, answer.URL)
	if answer.RawError {
		fmt.Fprintf(&b, "Code: %d. Raw Message:\n\n%s", answer.StatusCode, strings.TrimSpace(strings.Join(answer.Errors, "\n")))
		return b.String()
	}
	fmt.Fprintf(&b, "Code: %d. Errors:\n", answer.StatusCode)
	for _, text := range answer.Errors {
		fmt.Fprintf(&b, "\n* %s", strings.TrimSpace(text))
	}
	return b.String()
}
