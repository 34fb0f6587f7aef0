//go:build !unix

package demo

import "os/exec"

// apart does nothing: there are no process groups here.
func apart(*exec.Cmd) {}

// An account is whom a program runs as: always our own here.
type account struct{}

func lesser() (*account, error) { return nil, nil }

func (*account) own(string) error { return nil }

func (*account) run(*exec.Cmd) {}
