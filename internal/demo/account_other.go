//go:build !unix

package demo

import "os/exec"

// separateGroup does nothing, because there are no process groups here.
func separateGroup(*exec.Cmd) {}

// An account is the account of a program, which is always our own here.
type account struct{}

func unprivileged() (*account, error) { return nil, nil }

func (*account) own(string) error { return nil }

func (*account) run(*exec.Cmd) {}
