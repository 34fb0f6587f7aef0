package cli

import (
	"context"
	"fmt"
	"runtime/debug"
)

// Version is the version of Keyturn.
const Version = "0.1.0"

// stamped is the commit that the Makefile passes to the linker, because Go records the commit only
// if it may run git.
var stamped string

// Commit returns the commit that the binary was built from, with a plus if files were changed. It
// is empty if the build does not record it.
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
		long: "Prints the version, the commit it was built from and the number of the storage\nlayout: a binary " +
			"with a lower number refuses the storage. Started under the name\nvault, it prints the version of Vault " +
			"whose behaviour is implemented first.",
		examples: []example{{"Print the version:", "keyturn version"}},
		run: func(_ context.Context, s *session) error {
			commit := Commit()
			if commit == "" {
				commit = "unknown"
			}
			done, err := s.out.encode(
				map[string]any{"version": Version, "vault_version": env.Implements, "commit": commit,
					"storage_layout": env.Layout})
			if done {
				return err
			}
			text := fmt.Sprintf("Keyturn v%s (commit %s), storage layout %d\n", Version, commit, env.Layout)
			if s.name == "vault" { // clients read the version of Vault from the first words
				text = fmt.Sprintf("Vault v%s (Keyturn v%s, commit %s), storage layout %d\n",
					env.Implements, Version, commit, env.Layout)
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
			long: "Prints the token that requests carry: VAULT_TOKEN, or the stored one.",
			examples: []example{{"Use the token in another program:",
				"curl -H \"X-Vault-Token: $(keyturn print token)\" $VAULT_ADDR/v1/sys/mounts"}},
			run: func(_ context.Context, s *session) error {
				token, err := s.sessionToken()
				if err != nil {
					return err
				}
				if token.Empty() {
					return hinted(refuse(exitLocal, "Error: there is no token"),
						"log in with %q or set VAULT_TOKEN.", s.name+" login")
				}
				return s.out.write(token.RevealString() + "\n")
			},
		}},
	}
}
