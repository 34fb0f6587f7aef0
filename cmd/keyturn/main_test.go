package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/test/await"
)

// TestMain runs this test binary as the programs that the scripts call.
func TestMain(m *testing.M) {
	program := func() { os.Exit(run()) }
	testscript.Main(m, map[string]func(){"keyturn": program, "vault": program})
}

// TestScripts runs the scripts, each with its own development server.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			return os.Mkdir(filepath.Join(env.WorkDir, "home"), 0o700)
		},
		Condition: condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"startdev":    startdev,
			"setout":      setout,
			"startserver": startserver,
			"stopserver":  stopserver,
			"hangup":      hangup,
			"waitfor":     waitfor,
			"startstripe": startstripe,
		},
	})
}

// condition implements [server] and [demo]: whether this binary has them.
func condition(name string) (bool, error) {
	switch name {
	case "server":
		return environment().Server != nil, nil
	case "demo":
		return environment().Demo != nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// startdev starts a development server on a free port, with the root token "root" and the script's
// flags, and waits until it answers. It sets VAULT_ADDR and VAULT_TOKEN. The server ends with the
// script.
func startdev(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("startdev: cannot be negated")
	}
	address := freeAddress(ts)
	ctx, cancel := context.WithCancel(context.Background())
	program := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "keyturn")
	server := exec.CommandContext(ctx, program, append([]string{"server", "-dev",
		"-dev-root-token-id=root", "-dev-listen-address=" + address}, args...)...)
	server.Env = []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	server.Dir = ts.Getenv("WORK")
	log, err := os.Create(filepath.Join(ts.Getenv("WORK"), "server.log"))
	ts.Check(err)
	server.Stdout, server.Stderr = log, log
	ts.Check(server.Start())
	ended := make(chan error, 1)
	go func() { ended <- server.Wait() }()
	ts.Defer(func() {
		cancel()
		<-ended
		log.Close()
	})
	ts.Setenv("VAULT_TOKEN", "root")
	ts.Setenv("VAULT_ADDR", "http://"+address)
	waits := func() error { return answers("http://"+address+"/v1/sys/health", ended) }
	if slices.Contains(args, "-dev-tls") {
		ts.Setenv("VAULT_ADDR", "https://"+address)
		waits = func() error { return accepts(address, ended) }
	}
	if err := waits(); err != nil {
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("starting the development server: %v\n%s", err, text)
	}
}

func freeAddress(ts *testscript.TestScript) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	defer l.Close()
	return l.Addr().String()
}

// until waits until a server is ready.
func until(ready func() bool, ended chan error) error {
	late := time.After(await.Patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			ended <- err
			return fmt.Errorf("it ended: %w", err)
		case <-late:
			return errors.New("it does not answer")
		case <-tick.C:
		}
		if ready() {
			return nil
		}
	}
}

// accepts waits until a server listens. It answers a connection when it is ready.
func accepts(address string, ended chan error) error {
	return until(func() bool {
		c, err := net.Dial("tcp", address)
		return err == nil && c.Close() == nil
	}, ended)
}

// answers requests url until the answer is 200.
func answers(url string, ended chan error) error {
	return until(func() bool {
		response, err := http.Get(url)
		if err != nil {
			return false // not listening yet
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}, ended)
}

// setout sets an environment variable to the last standard output, without surrounding spaces.
func setout(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: setout NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
