// Package secret holds plaintext so that no printer can reach it.
//
// Invariant: a [Value] has no form in fmt, slog, encoding/json, encoding/gob or
// reflect that shows its bytes. [Value.Reveal] is the only way out, and every
// call of it can be found by its name.
package secret

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
)

// A Value is secret bytes. Its zero value is empty. The bytes live inside a
// closure, so printers and reflection have nothing to walk. A Value is
// immutable and safe for concurrent use.
type Value struct{ reveal func() []byte }

// New copies b.
func New(b []byte) Value { return keep(bytes.Clone(b)) }

// Text is New for a string.
func Text(s string) Value { return keep([]byte(s)) } // which is a copy already

// keep takes b, which nobody else has.
func keep(b []byte) Value { return Value{func() []byte { return b }} }

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

// Equal compares in time that depends on the lengths alone.
func (v Value) Equal(w Value) bool {
	return subtle.ConstantTimeCompare(v.Reveal(), w.Reveal()) == 1
}

const shown = "[secret]"

// LogValue shows nothing.
func (Value) LogValue() slog.Value { return slog.StringValue(shown) }

// Format shows nothing, whatever the verb.
func (Value) Format(s fmt.State, _ rune) { fmt.Fprint(s, shown) }

var errNoForm = errors.New("secret: a value has no encoded form; reveal it on purpose")

// MarshalJSON refuses: secrets leave through wire's encoder alone.
func (Value) MarshalJSON() ([]byte, error) { return nil, errNoForm }

// MarshalText refuses, too.
func (Value) MarshalText() ([]byte, error) { return nil, errNoForm }

// MarshalBinary refuses, too.
func (Value) MarshalBinary() ([]byte, error) { return nil, errNoForm }

// UnmarshalJSON takes a JSON string, so that requests decode into a Value.
func (v *Value) UnmarshalJSON(b []byte) error {
	s, err := unquote(b)
	if err != nil {
		return err
	}
	*v = Text(s)
	return nil
}
