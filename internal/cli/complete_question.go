package cli

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A question is one completion: the command that the line names, and what is
// known of its flags and arguments.
type question struct {
	c     *command
	line  string // its names
	s     *session
	flags *flags
	args  []string // those before the word that is being typed

	ask    func(request) bool
	mounts []seenMount
	asked  bool // for the mounts
}

// asker returns a function that makes a request as the session would, and reports
// whether it succeeded. It drops the reason for a failure.
func asker(ctx context.Context, s *session) func(request) bool {
	return func(r request) bool {
		c, err := s.connect()
		if err != nil {
			return false
		}
		c.api.SetClientTimeout(completionTime)
		c.api.SetMaxRetries(0)
		return c.aside(func() error { return r(ctx, c) }) == nil
	}
}

// names lists what is at a path.
func (q *question) names(path target) []string {
	var names []string
	q.ask(func(ctx context.Context, c *client) error {
		sec, err := c.list(ctx, path)
		names = keysOf(sec)
		return err
	})
	return names
}

// listed are the names at a path as words; one that ends in a slash goes on.
func (q *question) listed(path target, prefix string) []candidate {
	var found []candidate
	for _, name := range q.names(path) {
		found = append(found, candidate{prefix + name, !strings.HasSuffix(name, "/"), ""})
	}
	return found
}

// isFile reports whether a flag's value is a file or a folder, by what stands for
// it in usage.
func isFile(value string) bool {
	return slices.Contains([]string{"file", "folder", "path"}, value)
}

// set gives a flag its value, if it takes that: a mistake shows when the line is
// run.
func (q *question) set(name, value string) {
	if f := q.flags.set.Lookup(name); f != nil {
		_ = f.Value.Set(value)
	}
}

// completionTime bounds what a completion asks of the server: a person waits for
// it at a prompt. Its answer to all that goes wrong is that it offers less.
const completionTime = time.Second

// A seenMount is a mount that the token may see.
type seenMount struct {
	path string // with a slash at its end; below auth/ for an auth method
	kind string // as served names it
	auth bool
}
