// Command keyturn is the server, the command line, the agent and the rotation
// engine in one binary.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/keyturn/keyturn/internal/cli"
	"github.com/keyturn/keyturn/internal/demo"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/server"
)

func main() { os.Exit(run()) }

// run is the program. The first signal to stop cancels ctx, the second ends the program.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return cli.Main(ctx, os.Args, environment())
}

// environment is the command line's environment of this binary.
func environment() cli.Env {
	return cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Layout: server.Layout, Implements: server.Implements,
		Server: server.Command(server.Plugins{
			Storage: plugins.StorageDrivers, Seals: plugins.Seals, Audits: plugins.AuditDevices,
			Engines: plugins.Engines, Auths: plugins.AuthMethods, Databases: plugins.DatabasePlugins(),
		}, cli.Version),
		Demo: demo.Command, Recipes: plugins.Recipes(),
	}
}
