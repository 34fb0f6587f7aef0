package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/keyturn/keyturn/internal/secret"
)

// prompt asks for a secret. At a terminal it does not show; elsewhere it is a
// line of standard input.
func (s *session) prompt(question string) (secret.Value, error) {
	if s.opt.noPrompt {
		return secret.Value{}, usagef("an answer is missing, and -non-interactive forbids to ask: %s", strings.TrimSuffix(question, ": "))
	}
	fmt.Fprint(s.env.Stderr, question)
	if f, ok := s.env.Stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		b, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(s.env.Stderr)
		return secret.Text(strings.TrimSpace(string(b))), local(err, "reading the answer")
	}
	line, err := bufio.NewReader(s.env.Stdin).ReadString('\n')
	fmt.Fprintln(s.env.Stderr)
	if err != nil && !errors.Is(err, io.EOF) {
		return secret.Value{}, local(err, "reading the answer")
	}
	if line = strings.TrimSpace(line); line == "" {
		return secret.Value{}, usagef("no answer to: %s", strings.TrimSuffix(question, ": "))
	}
	return secret.Text(line), nil
}

// argumentOrPrompt is the one argument; "-" stands for standard input, and none
// for asking.
func (s *session) argumentOrPrompt(question string) (secret.Value, error) {
	switch first(s.args) {
	case "":
		return s.prompt(question)
	case "-":
		b, err := io.ReadAll(s.env.Stdin)
		return secret.Text(strings.TrimSpace(string(b))), local(err, "reading standard input")
	}
	return secret.Text(strings.TrimSpace(s.args[0])), nil
}
