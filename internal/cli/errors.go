package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"syscall"

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

// A hint is an error with a next step that only its place knows.
type hint struct {
	error
	next string
}

func (e hint) Unwrap() error { return e.error }

func hinted(err error, format string, args ...any) error {
	return hint{err, fmt.Sprintf(format, args...)}
}

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
func (s *session) report(err error) int {
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(s.env.Stderr, withoutPassword(harmless(err.Error())))
	for _, next := range s.hints(err) {
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

// hints are the next steps for the errors that users meet.
func (s *session) hints(err error) []string {
	var list []string
	if h, ok := errors.AsType[hint](err); ok {
		list = append(list, h.next)
	}
	var usage usageError
	var answer *api.ResponseError
	var unsent *url.Error
	switch {
	case errors.As(err, &usage):
		list = append(list, fmt.Sprintf("%q shows what the command takes.", s.line+" -h"))
	case errors.As(err, &answer):
		list = append(list, s.answerHints(answer)...)
	case errors.As(err, &unsent):
		list = append(list, connectionHints(unsent)...)
	}
	return list
}

// answerHints are for an answer that is an error.
func (s *session) answerHints(e *api.ResponseError) []string {
	text := strings.Join(e.Errors, "\n")
	switch {
	case e.StatusCode == http.StatusBadRequest && strings.Contains(text, "HTTP request to an HTTPS server"):
		return []string{"the server speaks https; set VAULT_ADDR (or -address) to the same address with https://."}
	case e.StatusCode == http.StatusServiceUnavailable && strings.Contains(strings.ToLower(text), "sealed"):
		return []string{fmt.Sprintf("unseal the server with %q; a new one is first set up with %q.", s.name+" operator unseal", s.name+" operator init")}
	case (e.StatusCode == http.StatusForbidden || strings.Contains(text, "missing client token")) && s.client != nil && s.client.api.Token() == "" && !strings.HasSuffix(s.line, " login"):
		return []string{fmt.Sprintf("no token was sent; log in with %q or set VAULT_TOKEN.", s.name+" login")}
	}
	return nil
}

// connectionHints are for a request that got no answer.
func connectionHints(e *url.Error) []string {
	address := "the server"
	if u, err := url.Parse(e.URL); err == nil {
		address = u.Scheme + "://" + u.Host
	}
	set := "set VAULT_ADDR (or -address) to its address"
	switch text := e.Error(); {
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return []string{fmt.Sprintf("the server speaks plain http; %s with http://, as in VAULT_ADDR=%s.", set, strings.Replace(address, "https://", "http://", 1))}
	case errors.Is(e, syscall.ECONNREFUSED), strings.Contains(text, "refused"), strings.Contains(text, "no such host"):
		return []string{fmt.Sprintf("no server is reachable at %s; start one, or %s.", address, set)}
	case strings.Contains(text, "certificate signed by unknown authority"):
		return []string{"name the authority that signed the server's certificate with -ca-cert or VAULT_CACERT."}
	case strings.Contains(text, "x509:"):
		return []string{"the server's certificate does not fit its address; use an address that it names, or -tls-server-name."}
	case errors.Is(e, context.DeadlineExceeded), os.IsTimeout(e):
		return []string{fmt.Sprintf("%s did not answer in time; VAULT_CLIENT_TIMEOUT sets for how long to wait.", address)}
	}
	return nil
}
