package cli

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/policy"
)

func policyCommand() *command {
	return &command{
		name: "policy", short: "Write, read and delete policies",
		long: "Works with policies: what tokens may do at which paths.",
		sub:  []*command{policyRead(), policyWrite(), policyList(), policyDelete(), policyFmt()},
	}
}

const policies target = "sys/policies/acl"

func policyRead() *command {
	return &command{
		name: "read", short: "Print a policy", args: "NAME", min: 1, max: 1,
		long:     "Prints the text of a policy.",
		examples: []example{{"Print a policy:", "keyturn policy read deploy-service"}},
		run: func(ctx context.Context, s *session) error {
			name := s.args[0]
			path, err := policies.child(name)
			if err != nil {
				return err
			}
			sec, err := s.send(ctx, call{op: "read", path: path, doing: "reading policy named " + name})
			if err != nil {
				return err
			}
			if sec == nil {
				return refuse(exitRemote, "No policy named: %s", name)
			}
			text, _ := sec.Data["policy"].(string)
			if done, err := s.out.encode(map[string]string{"policy": text}); done {
				return err
			}
			return s.out.write(strings.TrimRight(text, "\n") + "\n")
		},
	}
}

func policyWrite() *command {
	return &command{
		name: "write", short: "Write a policy", args: "NAME FILE", min: 2, max: 2,
		long: "Writes a policy from a file or, for -, from standard input.",
		examples: []example{
			{"Write a policy from a file:", "keyturn policy write deploy-service deploy-service.hcl"},
			{"Write one in place:", "echo 'path \"database/creds/app-readonly\" { capabilities = [\"read\"] }' | " +
				"keyturn policy write deploy-service -"},
		},
		run: runChange(func(s *session) (call, error) {
			name := s.args[0]
			path, err := policies.child(name)
			if err != nil {
				return call{}, err
			}
			text, err := s.readFile(s.args[1])
			return call{
				op: "update", path: path, body: map[string]any{"policy": string(text)},
				doing: "uploading policy " + name, success: "Success! Uploaded policy: " + name,
			}, local(err, "reading the policy")
		}),
	}
}

// readFile reads a file, or standard input for "-".
func (s *session) readFile(name string) ([]byte, error) {
	if name == "-" {
		return hostfile.ReadStream(s.env.Stdin, maxInput)
	}
	return hostfile.ReadNamed(name, maxInput)
}

func policyList() *command {
	return &command{
		name: "list", short: "List the policies",
		long:     "Lists the names of the policies.",
		examples: []example{{"List the policies:", "keyturn policy list"}},
		run: func(ctx context.Context, s *session) error {
			sec, err := s.send(ctx, call{op: "list", path: policies, doing: "listing policies"})
			if err != nil {
				return err
			}
			names := keysOf(sec)
			if done, err := s.out.encode(names); done {
				return err
			}
			var b strings.Builder
			for _, name := range names {
				b.WriteString(name + "\n")
			}
			return s.out.write(b.String())
		},
	}
}

func policyDelete() *command {
	return &command{
		name: "delete", short: "Delete a policy", args: "NAME", min: 1, max: 1,
		long:     "Deletes a policy. Tokens that have it lose what it allowed at once.",
		examples: []example{{"Delete a policy:", "keyturn policy delete deploy-service"}},
		run: func(ctx context.Context, s *session) error {
			name := s.args[0]
			path, err := policies.child(name)
			if err != nil {
				return err
			}
			if _, err := s.send(ctx, call{op: "delete", path: path, doing: "deleting " + name}); err != nil {
				return err
			}
			return s.out.say("Success! Deleted policy: %s", name)
		},
	}
}

func policyFmt() *command {
	return &command{
		name: "fmt", short: "Format a policy file", args: "FILE", min: 1, max: 1, local: true,
		long:     "Formats a policy file in place.",
		examples: []example{{"Format a file:", "keyturn policy fmt deploy-service.hcl"}},
		run: func(_ context.Context, s *session) error {
			file := s.args[0]
			text, err := hostfile.ReadNamed(file, maxInput)
			if err != nil {
				return local(err, "reading the policy")
			}
			formatted, err := policy.Format(text)
			if err != nil {
				return local(errors.New(fault.Message(err)), "formatting %s", file)
			}
			if err := os.WriteFile(file, formatted, 0o644); err != nil {
				return local(err, "writing %s", file)
			}
			return s.out.say("Success! Formatted policy: %s", file)
		},
	}
}
