package cli

import (
	"context"
	"fmt"
	"runtime/debug"
)

// Version is the version of Keyturn.
const Version = "0.1.0"

// stamped is what Commit gives where the linker was told so (see the Makefile): Go itself tells only
// where it is allowed to ask git.
var stamped string

// Commit is the commit that the binary was built from, with a plus where files
// were changed; empty when the build does not tell.
func Commit() string {
	if stamped != "" {
		return stamped
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	commit, changed := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			commit = setting.Value
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = "+"
		}
	}
	if commit == "" {
		return ""
	}
	return commit[:min(len(commit), 12)] + changed
}

func versionCommand(env Env) *command {
	return &command{
		name: "version", short: "Print the version", local: true,
		long:     "Prints the version, the commit it was built from and the number of the storage\nlayout: a binary with a lower number refuses the storage. Started under the name\nvault, it prints the version of Vault whose behaviour is implemented first.",
		examples: []example{{"Print the version:", "keyturn version"}},
		run: func(_ context.Context, s *session) error {
			commit := Commit()
			if commit == "" {
				commit = "unknown"
			}
			done, err := s.out.encode(map[string]any{"version": Version, "vault_version": env.Implements, "commit": commit, "storage_layout": env.Layout})
			if done {
				return err
			}
			text := fmt.Sprintf("Keyturn v%s (commit %s), storage layout %d\n", Version, commit, env.Layout)
			if s.name == "vault" { // clients look at the first words to know what they may ask for
				text = fmt.Sprintf("Vault v%s (Keyturn v%s, commit %s), storage layout %d\n", env.Implements, Version, commit, env.Layout)
			}
			return s.out.write(text)
		},
	}
}

func printCommand() *command {
	return &command{
		name: "print", short: "Print what the session runs with",
		long: "Prints what the commands of this session run with.",
		sub: []*command{{
			name: "token", short: "Print the session's token", local: true,
			long:     "Prints the token that requests carry: VAULT_TOKEN, or the stored one.",
			examples: []example{{"Use the token in another program:", "curl -H \"X-Vault-Token: $(keyturn print token)\" $VAULT_ADDR/v1/sys/mounts"}},
			run: func(_ context.Context, s *session) error {
				held, err := s.heldToken()
				if err != nil {
					return err
				}
				if held.Empty() {
					return hinted(refusal{exitLocal, "Error: there is no token"}, "log in with %q or set VAULT_TOKEN.", s.name+" login")
				}
				return s.out.write(held.RevealString() + "\n")
			},
		}},
	}
}
