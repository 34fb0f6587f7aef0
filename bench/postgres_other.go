//go:build !unix

package main

import (
	"context"
	"errors"
)

// benchPostgres needs a server that it can start as another user.
func benchPostgres(context.Context, *bench) ([]result, error) {
	return nil, errors.New("the row postgres is measured on Unix alone")
}
