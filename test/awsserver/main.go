// Command awsserver serves the IAM and STS calls of AWS on a port of the loopback interface, with
// one administrator, for tests that run other programs. It prints its address and ends with its
// standard input. Shells give background programs an empty input, so write "sleep infinity |
// awsserver &" there.
//
//	awsserver [-listen 127.0.0.1:0] [-key AKIA… -secret …] [-lag 0s] [-mfa]
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/keyturn/keyturn/internal/demo/awsserver"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "awsserver:", err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:0", "where to listen")
	key := flag.String("key", "AKIAIOSFODNN7EXAMPLE", "the administrator's access key")
	secret := flag.String("secret", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "the administrator's secret key")
	lag := flag.Duration("lag", 0, "how long a new access key is refused")
	mfa := flag.Bool("mfa", false,
		"whether the administrator has an MFA device, whose codes are any six digits, a console password and more")
	flag.Parse()
	s := awsserver.New(awsserver.Options{KeyLag: *lag, ListLag: *lag})
	s.AddAdmin(awsserver.Account, "keyturn", *key, *secret)
	if *mfa {
		s.Attach(awsserver.Account, "keyturn")
	}
	for _, name := range []string{"ci", "deploy", "admin"} {
		s.AddRole(awsserver.Account, awsserver.Role{Name: name, MaxSession: 12 * time.Hour})
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	fmt.Printf("http://%s\n", l.Addr())
	h := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		fmt.Fprintln(os.Stderr, "awsserver: ends, since its standard input did")
		_ = h.Close()
	}()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
