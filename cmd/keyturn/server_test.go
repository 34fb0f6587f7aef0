package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyturn/keyturn/test/await"
)

// A running is a server of a script.
type running struct {
	process *os.Process
	ended   chan error
	log     *os.File
}

// servers maps each script to its server.
var servers sync.Map // *testscript.TestScript → *running

// startserver starts `keyturn server` with the configuration files that the script names and a
// listener on a free port, and waits until it answers, sealed or not. It sets VAULT_ADDR. All
// starts log to server.log. Negated, the server must end with an error, which is then in
// server.log.
func startserver(ts *testscript.TestScript, neg bool, args []string) {
	if _, busy := servers.Load(ts); busy && !neg {
		ts.Fatalf("startserver: the script has a server already")
	}
	address := freeAddress(ts)
	listener := ts.MkAbs("listener.hcl")
	ts.Check(os.WriteFile(listener,
		fmt.Appendf(nil, "listener \"tcp\" {\n  address     = %q\n  tls_disable = true\n}\n", address), 0o600))
	full := []string{"server", "-config", listener}
	for _, a := range args {
		full = append(full, "-config", ts.MkAbs(a))
	}
	program := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "keyturn")
	server := exec.Command(program, full...)
	server.Env = []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH"), "TMPDIR=" + ts.Getenv("TMPDIR")}
	server.Dir = ts.MkAbs(".")
	log, err := os.OpenFile(ts.MkAbs("server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	server.Stdout, server.Stderr = log, log
	ts.Check(server.Start())
	r := &running{server.Process, make(chan error, 1), log}
	go func() { r.ended <- server.Wait() }()
	if neg {
		r.wantFailure(ts)
		return
	}
	servers.Store(ts, r)
	ts.Defer(func() {
		if last, is := servers.LoadAndDelete(ts); is {
			last.(*running).process.Kill()
			<-last.(*running).ended
		}
	})
	ts.Setenv("VAULT_ADDR", "http://"+address)
	if err := answers("http://"+address+"/v1/sys/health?sealedcode=200&uninitcode=200", r.ended); err != nil {
		text, _ := os.ReadFile(log.Name())
		ts.Fatalf("starting the server: %v\n%s", err, text)
	}
}

func (r *running) wantFailure(ts *testscript.TestScript) {
	defer r.log.Close()
	select {
	case err := <-r.ended:
		if err == nil {
			ts.Fatalf("the server ended without an error")
		}
	case <-time.After(await.Patience):
		r.process.Kill()
		<-r.ended
		ts.Fatalf("the server runs")
	}
}

// stopserver stops the script's server with SIGTERM, after which it must end without an error, or
// kills it with `stopserver -KILL`.
func stopserver(ts *testscript.TestScript, neg bool, args []string) {
	got, ok := servers.LoadAndDelete(ts)
	if !ok || neg {
		ts.Fatalf("stopserver: there is no server, or it was negated")
	}
	r := got.(*running)
	defer r.log.Close()
	if len(args) == 1 && args[0] == "-KILL" {
		ts.Check(r.process.Kill())
		<-r.ended
		return
	}
	ts.Check(r.process.Signal(syscall.SIGTERM))
	select {
	case err := <-r.ended:
		ts.Check(err)
	case <-time.After(await.Patience):
		ts.Fatalf("the server does not end")
	}
}

// hangup sends SIGHUP to the script's server.
func hangup(ts *testscript.TestScript, neg bool, _ []string) {
	got, ok := servers.Load(ts)
	if !ok || neg {
		ts.Fatalf("hangup: there is no server, or it was negated")
	}
	ts.Check(got.(*running).process.Signal(syscall.SIGHUP))
}

// waitfor runs a command until it succeeds.
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: waitfor COMMAND [ARGUMENT ...]")
	}
	ctx, cancel := context.WithTimeout(context.Background(), await.Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("%v did not succeed in time: %v", args, err)
		case <-tick.C:
		}
	}
}
