package cli

import (
	"context"
	"net/url"

	"github.com/hashicorp/vault/api"
)

// A call is one request to the server. A command that only sends a call and prints the answer
// is a row: run is runChange or runRead of the function that makes the call from the arguments.
type call struct {
	op      string // read, list, update, patch or delete
	path    target
	params  url.Values     // of read and delete
	body    map[string]any // of update and patch
	doing   string         // what an error says: "reading policy named x"
	success string         // what the command prints when the answer is empty
}

// send connects and sends c.
func (s *session) send(ctx context.Context, c call) (*api.Secret, error) {
	client, err := s.connect()
	if err != nil {
		return nil, err
	}
	var sec *api.Secret
	switch c.op {
	case "read":
		sec, err = client.read(ctx, c.path, c.params)
	case "list":
		sec, err = client.list(ctx, c.path)
	case "patch":
		sec, err = client.patch(ctx, c.path, c.body)
	case "delete":
		sec, err = client.remove(ctx, c.path, c.params)
	default:
		sec, err = client.write(ctx, c.path, c.body)
	}
	return sec, remote(err, "%s", c.doing)
}

// read sends c, which reads or lists, and fails when the answer is empty.
func (s *session) read(ctx context.Context, c call) (*api.Secret, error) {
	sec, err := s.send(ctx, c)
	if err == nil && sec == nil {
		err = notFoundAt("%s", c.path)
	}
	return sec, err
}

// change sends c and prints the answer, or that it succeeded.
func (s *session) change(ctx context.Context, c call) error {
	sec, err := s.send(ctx, c)
	if err != nil {
		return err
	}
	return s.out.done(sec, "%s", c.success)
}

// runChange is the run of a command that makes one change.
func runChange(makeCall func(*session) (call, error)) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		c, err := makeCall(s)
		if err != nil {
			return err
		}
		return s.change(ctx, c)
	}
}

// runRead is the run of a command that reads one path and prints the answer with show.
func runRead(c call, show func(*session, *api.Secret) error) func(context.Context, *session) error {
	return func(ctx context.Context, s *session) error {
		sec, err := s.read(ctx, c)
		if err != nil {
			return err
		}
		if sec.WrapInfo != nil {
			return s.out.show(sec)
		}
		return show(s, sec)
	}
}
