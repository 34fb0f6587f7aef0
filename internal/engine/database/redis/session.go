package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// idleName is what sessions are called that run no create.
const idleName = "keyturn"

// A session is one connection to a server, with a client of the library's of its own: the
// library's pool dials in the background, retries there after the end, and hands out the last
// error while it does. A session is used by one call at a time.
type session struct {
	*redis.Conn
	client  *redis.Client
	net     net.Conn
	replies *limited
	server  server
	opened  time.Time
	role    string // the server's, when it was opened
	broken  bool   // after an error between commands and replies
}

var errSentinel = errors.New("it is a Sentinel")

// connectError is an error of opening a session.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// connect opens a connection to a server, with nobody logged in.
func (p *plan) connect(ctx context.Context, to server) (*session, error) {
	n, err := p.dial(ctx, "tcp", to.address)
	if err != nil {
		return nil, &connectError{err}
	}
	over := n
	if p.tls != nil {
		config := p.tls.Clone()
		config.ServerName = to.name
		t := tls.Client(n, config)
		if err := t.HandshakeContext(ctx); err != nil {
			n.Close()
			return nil, &connectError{err}
		}
		over = t
	}
	replies := &limited{Conn: over}
	client := redis.NewClient(&redis.Options{
		Addr:   to.address,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return replies, nil },
		// Contexts are the timeouts, and nothing is sent twice or unasked.
		ContextTimeoutEnabled: true, ReadTimeout: -1, WriteTimeout: -1, MaxRetries: -1, DialerRetries: 1,
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		PoolSize:                 1, PipelinePoolSize: -1, ConnMaxIdleTime: -1, ReadBufferSize: 4 << 10,
		WriteBufferSize: 4 << 10,
	})
	return &session{Conn: client.Conn(), client: client, net: n, replies: replies, server: to, opened: time.Now()}, nil
}

// login opens a session of the administrator.
func (p *plan) login(ctx context.Context, to server) (*session, error) {
	s, err := p.connect(ctx, to)
	if err != nil {
		return nil, err
	}
	user, password := p.username, p.config.Password
	if to.sentinel {
		user, password = p.watchers.user, p.watchers.password
	}
	auth := []string{"AUTH", user, password.RevealString()}
	switch {
	case password.Empty():
		auth = []string{"PING"} // a server without passwords, which only its network protects
	case user == "":
		auth = slices.Delete(auth, 1, 2)
	}
	commands := [][]string{auth, {"HELLO", "2"}}
	if !to.sentinel {
		commands = append(commands, []string{"CLIENT", "SETNAME", idleName})
	}
	if err := s.authenticate(ctx, commands...); err != nil {
		s.shut()
		return nil, &connectError{err}
	}
	return s, nil
}

// authenticate sends AUTH, and then HELLO if that follows. The library's own way would send a
// password that is refused twice.
func (s *session) authenticate(ctx context.Context, commands ...[]string) error {
	replies, err := s.do(ctx, commands...)
	said, ok := err.(*answer)
	switch refusal := s.replies.refusal(); {
	case err != nil && !ok && refusal != "": // said before it closed the connection, and not passed on by the library
		return &answer{text: refusal}
	case err != nil && (!ok || said.at != 1): // HELLO may be unknown to what is between
		return err
	}
	if len(replies) > 1 {
		s.role = field(replies[1], "role")
		if field(replies[1], "mode") == "sentinel" && !s.server.sentinel {
			return errSentinel
		}
	}
	return nil
}

// turned reports whether the session has ended, or its server has another role than when it was
// opened: after a fail-over it is a replica, which would take changes of its list without an
// error, and tell nobody of them.
func (s *session) turned(ctx context.Context) bool {
	replies, err := s.do(ctx, []string{"HELLO", "2"})
	if _, answered := err.(*answer); answered {
		return s.role != ""
	}
	return err != nil || field(replies[0], "role") != s.role
}

// value is one of a reply that has names and values in turn.
func value(reply any, name string) any {
	list, _ := reply.([]any)
	for i := 0; i+1 < len(list); i += 2 {
		if list[i] == any(name) {
			return list[i+1]
		}
	}
	return nil
}

func field(reply any, name string) string {
	text, _ := value(reply, name).(string)
	return text
}

// texts are those of a list.
func texts(reply any) (all []string) {
	list, _ := reply.([]any)
	for _, one := range list {
		text, _ := one.(string)
		all = append(all, text)
	}
	return all
}

// answer is an error that the server answered to a command.
type answer struct {
	text string
	at   int // which command of the message
}

func (e *answer) Error() string { return e.text }

// word is the first word of the answer: "NOPERM".
func (e *answer) word() string {
	w, _, _ := strings.Cut(e.text, " ")
	return w
}

// do sends commands as one message and reads their replies: nil, a string, an int64 or a list of
// these. The server runs them in their order. An error of one does not keep the others from being
// run; the first is returned with all replies.
func (s *session) do(ctx context.Context, commands ...[]string) ([]any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	// The library goes by the context's deadline, and not by its end.
	stop := context.AfterFunc(ctx, func() { s.net.Close() })
	defer stop()
	pipe := s.Pipeline()
	cmds := make([]*redis.Cmd, len(commands))
	for i, words := range commands {
		args := make([]any, len(words))
		for j, w := range words {
			args[j] = w
		}
		cmds[i] = pipe.Do(ctx, args...)
	}
	_, failed := pipe.Exec(ctx)
	replies := make([]any, len(cmds))
	var first error
	for i, cmd := range cmds {
		reply, err := cmd.Result()
		said, answered := errors.AsType[redis.Error](err)
		switch {
		case err == nil:
			replies[i] = reply
		case err == redis.Nil:
			failed = nil // it is among the replies
		case !answered:
			s.broken = true
			if errors.Is(err, os.ErrDeadlineExceeded) { // the connection's, which is the context's
				err = errors.Join(err, context.DeadlineExceeded)
			}
			return replies[:i], err
		case first == nil:
			first = &answer{said.Error(), i}
		}
	}
	if first == nil && failed != nil { // nothing was sent: the session is of no use after what it was answered before
		s.broken = true
		return nil, failed
	}
	return replies, first
}

func (s *session) shut() {
	_ = s.client.Close()
	_ = s.net.Close()
}
