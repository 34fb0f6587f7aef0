package cli

import (
	"context"
	"io"

	"github.com/keyturn/keyturn/internal/engine/rotation"
)

// A Hook runs a command that lives in another package and parses its own
// flags. It returns the exit code.
type Hook func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int

// Env is what the command line touches of the process around it. The API client
// and the token helper read the process's own environment besides Getenv: the
// names of Vault's variables that concern connections.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string // nil: the process's
	Layout         int                 // the number of the storage layout, for version
	Implements     string              // the version of Vault whose behaviour the server has

	// What lives in other packages; nil: this binary was built without.
	Server, Demo Hook
	Recipes      *rotation.Provider // keys of third parties, by recipes
}

// The exit codes.
const (
	exitOK     = 0
	exitLocal  = 1
	exitRemote = 2
)
