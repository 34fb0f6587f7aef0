package cli

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A completion is the line that a shell asks to complete: its command, and the flags and arguments
// typed so far.
type completion struct {
	c     *command
	line  string // the names of the command: "kv get"
	s     *session
	flags *flags
	args  []string // the arguments before the word that is being typed

	query        func(request) bool
	mounts       []visibleMount
	mountsLoaded bool
}

// querier returns a function that sends a request with the session's connection, and reports
// whether it succeeded. It drops the error, because a completion must print nothing else.
func querier(ctx context.Context, s *session) func(request) bool {
	return func(r request) bool {
		c, err := s.connect()
		if err != nil {
			return false
		}
		c.api.SetClientTimeout(completionTime)
		c.api.SetMaxRetries(0)
		return c.auxiliary(func() error { return r(ctx, c) }) == nil
	}
}

// names lists the names at a path.
func (comp *completion) names(path target) []string {
	var names []string
	comp.query(func(ctx context.Context, c *client) error {
		sec, err := c.list(ctx, path)
		names = keysOf(sec)
		return err
	})
	return names
}

// list returns the names at a path as candidates. A name that ends in a slash is not a whole word.
func (comp *completion) list(path target, prefix string) []candidate {
	var found []candidate
	for _, name := range comp.names(path) {
		found = append(found, candidate{word: prefix + name, whole: !strings.HasSuffix(name, "/")})
	}
	return found
}

// isFile reports whether the placeholder of a flag's value in the usage stands for a file or
// folder.
func isFile(value string) bool {
	return slices.Contains([]string{"file", "folder", "path"}, value)
}

// set sets a flag. It ignores a wrong value, which the command reports when the line is run.
func (comp *completion) set(name, value string) {
	if f := comp.flags.set.Lookup(name); f != nil {
		_ = f.Value.Set(value)
	}
}

// completionTime limits each request of a completion, because a person waits at a prompt. After a
// failed request the completion offers fewer candidates.
const completionTime = time.Second

// A visibleMount is a mount that the token may see.
type visibleMount struct {
	path string // with a slash at its end; below auth/ for an auth method
	kind string // its key in served
	auth bool
}
