package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/secret"
)

// maxAnswer limits an answer. It is larger than any secret that a person types or pipes in.
const maxAnswer = 1 << 20

// prompt asks for a secret. At a terminal the input is hidden; otherwise prompt reads one line of
// standard input.
func (s *session) prompt(ctx context.Context, question string) (secret.Value, error) {
	if s.opt.noPrompt {
		return secret.Value{},
			usagef("an answer is missing, and -non-interactive forbids asking: %s", strings.TrimSuffix(question, ": "))
	}
	fmt.Fprint(s.env.Stderr, question)
	if f, ok := s.env.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b, err := readHidden(ctx, int(f.Fd()))
		fmt.Fprintln(s.env.Stderr)
		return secret.Text(strings.TrimSpace(string(b))), local(err, "reading the answer")
	}
	line, err := bufio.NewReader(io.LimitReader(s.env.Stdin, maxAnswer+1)).ReadString('\n')
	fmt.Fprintln(s.env.Stderr)
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.Value{}, local(err, "reading the answer")
	}
	if len(line) > maxAnswer {
		return secret.Value{}, usagef("the answer is longer than %d bytes", maxAnswer)
	}
	if line = strings.TrimSpace(line); line == "" {
		return secret.Value{}, usagef("no answer to: %s", strings.TrimSuffix(question, ": "))
	}
	return secret.Text(line), nil
}

// argumentOrPrompt returns the only argument. It reads standard input for "-", and asks if there
// is no argument.
func (s *session) argumentOrPrompt(ctx context.Context, question string) (secret.Value, error) {
	switch first(s.args) {
	case "":
		return s.prompt(ctx, question)
	case "-":
		b, err := hostfile.ReadStream(s.env.Stdin, maxAnswer)
		return secret.Text(strings.TrimSpace(string(b))), local(err, "reading standard input")
	}
	return secret.Text(strings.TrimSpace(s.args[0])), nil
}

// readHidden reads a line without showing it. When ctx ends, readHidden returns at once and
// restores the terminal. The read itself cannot be cancelled and ends with the program.
func readHidden(ctx context.Context, terminal int) ([]byte, error) {
	before, err := term.GetState(terminal)
	if err != nil {
		return nil, err
	}
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() {
		b, err := term.ReadPassword(terminal)
		read <- line{text: b, err: err}
	}()
	select {
	case l := <-read:
		return l.text, l.err
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(terminal, before))
	}
}
