package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"
)

// printRequest prints the curl line or the policy in place of the request. With
// -output-curl-string or -output-policy, the API library returns an error instead of sending.
func (s *session) printRequest(ctx context.Context, err error) error {
	var curl *api.OutputStringError
	var policy *api.OutputPolicyError
	switch {
	case errors.As(err, &curl):
		line, err := s.curlLine(curl)
		if err != nil {
			return local(err, "writing the request as a curl command")
		}
		for _, a := range s.client.announced {
			fmt.Fprintf(s.env.Stderr, "The command then sends: %s %s\n", a.op, a.path)
		}
		return s.out.write(line + "\n")
	case errors.As(err, &policy):
		return s.out.write(s.client.policyFor(ctx, append([]access{s.client.last}, s.client.announced...)) + "\n")
	}
	return err
}

// report writes err and its hints to standard error and returns the exit code.
func (s *session) report(ctx context.Context, err error) int {
	var code exitCode
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(s.env.Stderr, withoutPassword(printable(err.Error())))
	for _, next := range hints(ctx, s, err) {
		fmt.Fprintf(s.env.Stderr, "\nHint: %s\n", printable(next))
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
