package cli

import (
	"context"
	"io"

	"github.com/keyturn/keyturn/internal/engine/rotation"
)

// A Hook runs a command that another package implements and that parses its own flags. It returns
// the exit code.
type Hook func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int

// Env is the environment of the command line. The API client and the token helper also read
// variables of the process directly, those of Vault that concern connections.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string // nil: os.Getenv
	Layout         int                 // the number of the storage layout, for version
	Implements     string              // the version of Vault whose behaviour the server has

	// Implemented by other packages; nil if this binary was built without.
	Server, Demo Hook
	Recipes      *rotation.Provider // keys of third parties, by recipes
}

// The exit codes.
const (
	exitOK     = 0
	exitLocal  = 1
	exitRemote = 2
)
