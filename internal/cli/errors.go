package cli

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"
)

// A usageError is a mistake on the command line.
type usageError struct{ err error }

func (e usageError) Error() string { return "Error: " + e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// A failure is an error of an operation, with the exit code.
type failure struct {
	code  int
	doing string
	err   error
}

func (e *failure) Error() string { return "Error " + e.doing + ": " + describe(e.err) }
func (e *failure) Unwrap() error { return e.err }

// remote wraps an error of a request to the server with what was being done. It returns nil for
// nil.
func remote(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	return &failure{code: exitRemote, doing: fmt.Sprintf(doing, args...), err: err}
}

// local is remote for an error on this machine.
func local(err error, doing string, args ...any) error {
	if err == nil {
		return nil
	}
	return &failure{code: exitLocal, doing: fmt.Sprintf(doing, args...), err: err}
}

// A refusal ends a command with a text and an exit code.
type refusal struct {
	code int
	text string
}

func (e refusal) Error() string { return e.text }

func refuse(code int, format string, args ...any) error {
	return refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// A notFound is the error of a command whose path is empty on the server.
type notFound struct{ error }

func (e notFound) Unwrap() error { return e.error }

func notFoundAt(format string, args ...any) error {
	return notFound{refuse(exitRemote, "No value found at "+format, args...)}
}

// isForbidden reports whether no policy of the token allows the request.
func isForbidden(err error) bool {
	var answer *api.ResponseError
	return errors.As(err, &answer) && answer.StatusCode == http.StatusForbidden
}

// isNotFound reports whether the server has nothing at the path.
func isNotFound(err error) bool {
	var answer *api.ResponseError
	if errors.As(err, &answer) {
		return answer.StatusCode == http.StatusNotFound
	}
	_, none := errors.AsType[notFound](err)
	return none
}

// An exitCode ends a command that has printed everything.
type exitCode int

func (exitCode) Error() string { return "" }

// passwords matches the passwords in addresses: https://name:password@host.
var passwords = regexp.MustCompile(`(://[^\s/@:"]*):[^/@"]*@`)

// withoutPassword removes the passwords of the addresses in text. The API library and url.Parse
// show them in errors, and errors are logged.
func withoutPassword(text string) string { return passwords.ReplaceAllString(text, "$1:***@") }

// describe returns the text of err. It formats an answer of the server in lines.
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
		fmt.Fprintf(&b, "Code: %d. Raw Message:\n\n%s", answer.StatusCode,
			strings.TrimSpace(strings.Join(answer.Errors, "\n")))
		return b.String()
	}
	fmt.Fprintf(&b, "Code: %d. Errors:\n", answer.StatusCode)
	for _, text := range answer.Errors {
		fmt.Fprintf(&b, "\n* %s", strings.TrimSpace(text))
	}
	return b.String()
}

// A hint is an error with a next step that only the code that fails knows.
//
// A hint must be true: the answer says it, or the command has asked the server. In doubt there is
// no hint. TestHints has cases for every hint, in which it is true and in which it is not.
type hint struct {
	error
	next string
}

func (e hint) Unwrap() error { return e.error }

func hinted(err error, format string, args ...any) error {
	return hint{err, fmt.Sprintf(format, args...)}
}

func notBuilt(name string) error {
	return refuse(exitLocal, "Error: the command %q is not built into this binary; use one that was built with it",
		name)
}
