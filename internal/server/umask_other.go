//go:build !unix

package server

import "os"

func privateFiles() (restore func()) { return func() {} }

func umask() os.FileMode { return 0 }
