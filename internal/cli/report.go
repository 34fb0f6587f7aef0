package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"
)

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
