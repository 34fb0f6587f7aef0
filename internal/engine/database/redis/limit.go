package redis

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"strings"
)

// Limits on what a server may answer: the library makes room for whatever a reply says that it
// has. CLIENT LIST is a few hundred bytes for each session.
const (
	longestLine = 64 << 10
	longestBulk = 16 << 20
	mostValues  = 1 << 16 // of one reply, at all depths: each takes more memory than bytes on the wire
	deepest     = 8
)

var errProtocol = errors.New("the server does not speak the Redis protocol")

// limited is a connection that lets replies through, in the protocol's version 2, as long as they
// keep the limits.
type limited struct {
	net.Conn
	replies scanner
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if bad := l.replies.scan(p[:n]); bad != nil {
		return 0, bad
	}
	return n, err
}

// refusal is the last error that the server answered, unless it is of a question from before the
// login.
func (l *limited) refusal() string {
	if strings.HasPrefix(l.replies.said, "NOAUTH ") {
		return ""
	}
	return l.replies.said
}

// A scanner follows replies as their bytes come. Its zero value expects the first.
type scanner struct {
	line   []byte // what came of the line
	bulk   int    // bytes of a text that are still to come
	after  bool   // after a text, where only the end of its line may be
	open   []int  // values that are still to come, of each list that has begun
	values int    // of this reply, with those that lists have announced
	said   string // the last error
}

func (s *scanner) scan(b []byte) error {
	for len(b) > 0 {
		if s.bulk > 0 {
			n := min(s.bulk, len(b))
			s.bulk, b = s.bulk-n, b[n:]
			continue
		}
		end := bytes.IndexByte(b, '\n') + 1
		part := b[:end]
		if end == 0 {
			part = b
		}
		if s.line, b = append(s.line, part...), b[len(part):]; len(s.line) > longestLine {
			return errProtocol
		}
		if end > 0 {
			line, ok := bytes.CutSuffix(s.line, []byte("\r\n"))
			if s.line = s.line[:0]; !ok || !s.value(line) {
				return errProtocol
			}
		}
	}
	return nil
}

// value takes a line, and reports whether it may be there.
func (s *scanner) value(line []byte) bool {
	switch {
	case s.after:
		s.after = false
		return len(line) == 0 && s.ends()
	case len(line) == 0:
		return false
	case line[0] == '-':
		s.said = string(line[1:])
		return s.ends()
	case line[0] == '+', line[0] == ':':
		return s.ends()
	}
	n, err := strconv.Atoi(string(line[1:]))
	switch {
	case err != nil || n < -1:
		return false
	case line[0] == '$' && n >= 0:
		s.bulk, s.after = n, true
		return n <= longestBulk
	case line[0] == '*' && n > 0:
		s.values += n
		s.open = append(s.open, n)
		return s.values < mostValues && len(s.open) <= deepest
	}
	return (line[0] == '$' || line[0] == '*') && s.ends()
}

// ends counts a value that is complete, and the lists that are with it.
func (s *scanner) ends() bool {
	for len(s.open) > 0 {
		last := &s.open[len(s.open)-1]
		if *last--; *last > 0 {
			return true
		}
		s.open = s.open[:len(s.open)-1]
	}
	s.values = 0
	return true
}
