// Package secret stores plaintext so that nothing prints it by accident.
//
// Invariant: fmt, slog, encoding/json, encoding/gob and reflect do not show the bytes of a
// [Value]. [Value.Reveal] is the only way to get them, and every call of it can be found by its
// name.
package secret

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// A Value is secret bytes. The zero value is empty. The bytes are in a closure, which printers and
// reflection cannot read. A Value is immutable and safe for concurrent use.
type Value struct{ reveal func() []byte }

// New copies b.
func New(b []byte) Value { return own(bytes.Clone(b)) }

// Text is New for a string.
func Text(s string) Value { return own([]byte(s)) } // which is a copy already

// own wraps b without copying it.
func own(b []byte) Value { return Value{func() []byte { return b }} }

// Reveal returns a copy of the plaintext.
func (v Value) Reveal() []byte {
	if v.reveal == nil {
		return nil
	}
	return bytes.Clone(v.reveal())
}

// RevealString returns the plaintext as a string.
func (v Value) RevealString() string {
	if v.reveal == nil {
		return ""
	}
	return string(v.reveal())
}

// Len is the number of bytes.
func (v Value) Len() int {
	if v.reveal == nil {
		return 0
	}
	return len(v.reveal())
}

// Empty reports whether there are no bytes.
func (v Value) Empty() bool { return v.Len() == 0 }

// Equal compares in a time that depends only on the lengths.
func (v Value) Equal(w Value) bool {
	return subtle.ConstantTimeCompare(v.Reveal(), w.Reveal()) == 1
}

const shown = "[secret]"

// LogValue shows nothing.
func (Value) LogValue() slog.Value { return slog.StringValue(shown) }

// Format shows nothing, whatever the verb.
func (Value) Format(s fmt.State, _ rune) { fmt.Fprint(s, shown) }

var errNoForm = errors.New("secret: a value has no encoded form; reveal it on purpose")

// MarshalJSON refuses, because only wire's encoder may write secrets.
func (Value) MarshalJSON() ([]byte, error) { return nil, errNoForm }

// MarshalText refuses, too.
func (Value) MarshalText() ([]byte, error) { return nil, errNoForm }

// MarshalBinary refuses, too.
func (Value) MarshalBinary() ([]byte, error) { return nil, errNoForm }

// UnmarshalJSON decodes a JSON string, so that requests can have fields of type Value.
func (v *Value) UnmarshalJSON(b []byte) error {
	s, err := unquote(b)
	if err != nil {
		return err
	}
	*v = Text(s)
	return nil
}
