package wire

import (
	"github.com/keyturn/keyturn/internal/fault"
)

// EachField calls f for each member of the JSON object body, which [Check] has
// accepted, in its order; value is the member's text.
func EachField(body []byte, f func(name string, value []byte) error) error {
	s := scanner{b: body}
	s.space()
	if s.i >= len(body) || body[s.i] != '{' {
		return fault.New("wire.Decode", fault.Invalid, "the request's body must be a JSON object")
	}
	s.i++
	for {
		s.space()
		if s.i < len(body) && body[s.i] == '}' {
			return nil
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		s.space()
		s.i++ // the colon
		s.space()
		from := s.i
		if err := s.value(1); err != nil {
			return err
		}
		if err := f(unescape(key), body[from:s.i]); err != nil {
			return err
		}
		if done, err := s.next('}'); done || err != nil {
			return err
		}
	}
}
