package cli

import (
	"context"
	"fmt"
	"io"
)

// tree returns all commands.
func tree(env Env) *command {
	return &command{
		long: "Keyturn issues credentials that live for minutes, and rotates the keys that other services " +
			"issue.\n\nkeyturn -autocomplete-install makes Tab complete commands, flags, mounts and paths in\nbash, " +
			"zsh and fish; keyturn -autocomplete-uninstall takes that back.",
		sub: []*command{
			readCommand(), writeCommand(), listCommand(), deleteCommand(), patchCommand(), unwrapCommand(),
			pathHelpCommand(),
			kvCommand(), rotateCommand(), recipeCommand(),
			loginCommand(), tokenCommand(), leaseCommand(), policyCommand(), printCommand(),
			secretsCommand(), authCommand(), auditCommand(), operatorCommand(), statusCommand(),
			hookCommand("server", "Start the server", env.Server),
			hookCommand("demo", "Watch keys being rotated, with everything built in", env.Demo),
			pluginCommand(), versionHistoryCommand(), versionCommand(env),
		},
	}
}

// hookCommand is a command that another package implements.
func hookCommand(name, short string, hook Hook) *command {
	if hook == nil {
		hook = func(_ context.Context, _ []string, _ io.Reader, _, stderr io.Writer) int {
			fmt.Fprintln(stderr, notBuilt(name))
			return exitLocal
		}
	}
	return &command{name: name, short: short, hook: hook}
}
