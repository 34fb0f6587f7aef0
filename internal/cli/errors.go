package cli

import (
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

// passwords are those in addresses, https://name:password@host.
var passwords = regexp.MustCompile(`(://[^\s/@:"]*):[^/@"]*@`)

// withoutPassword is text without the passwords of the addresses in it: errors
// end in logs. The API library and url.Parse show them.
func withoutPassword(text string) string { return passwords.ReplaceAllString(text, "$1:***@") }

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

// A hint is an error with a next step that only its place knows.
//
// A hint is printed only where it is true: what it says of the server, the answer
// has said, or the server was asked. Where that leaves it open, there is no hint.
// TestHints has every hint, where it is true and where it is not.
type hint struct {
	error
	next string
}

func (e hint) Unwrap() error { return e.error }

func hinted(err error, format string, args ...any) error {
	return hint{err, fmt.Sprintf(format, args...)}
}

func notBuilt(name string) error {
	return refusal{exitLocal, fmt.Sprintf("Error: the command %q is not built into this binary; use one that was built with it", name)}
}
