package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/hostfile"
)

// A process is a program that the demo runs, with its output in a file.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the program has ended
}

// launch starts a program, which stop or kill ends.
func launch(cmd *exec.Cmd, log string) (*process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // the program has its own handle
	cmd.Stdout, cmd.Stderr = f, f
	separateGroup(cmd)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the log says how it ended
		close(p.ended)
	}()
	return p, nil
}

// kill kills the program, as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// stop signals the program to end, and kills it after a while.
func (p *process) stop(ask os.Signal) {
	if p.cmd.Process.Signal(ask) == nil {
		select {
		case <-p.ended:
			return
		case <-time.After(5 * time.Second):
		}
	}
	p.kill()
}

// answer waits at most limit until ready says that the program answers.
func (p *process) answer(ctx context.Context, limit time.Duration, ready func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			return fmt.Errorf("it ended while starting (%w)", err)
		case <-ctx.Done():
			return fmt.Errorf("no answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// tail returns the end of a log, indented.
func tail(path string) string {
	const most = 12
	text, err := hostfile.ReadNamed(path, hostfile.MaxSize)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "    " + strings.Join(lines[max(len(lines)-most, 0):], "\n    ")
}

// freePort returns a free port below those that the system uses for outgoing connections, which
// could take it meanwhile.
func freePort(ctx context.Context) (port int, err error) {
	const lowest, count, tries = 20000, 12000, 50
	for range tries {
		port = lowest + rand.N(count)
		var l net.Listener
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("looking for a free port: %w", err)
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
