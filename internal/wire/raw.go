package wire

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// Raw is secret JSON, kept as the received bytes, so that numbers keep their digits and fields
// their order. [Check] has accepted it. The zero value is null.
type Raw struct{ v secret.Value }

// RawOf keeps b, which must be valid JSON.
func RawOf(b []byte) Raw { return Raw{secret.New(b)} }

// Reveal returns the JSON text; nil for the zero Raw.
func (r Raw) Reveal() []byte { return r.v.Reveal() }

// IsNull reports whether r is absent or JSON's null.
func (r Raw) IsNull() bool {
	return r.v.Empty() || bytes.Equal(bytes.TrimSpace(r.v.Reveal()), []byte("null"))
}

// IsObject reports whether r is a JSON object.
func (r Raw) IsObject() bool {
	b := bytes.TrimLeft(r.v.Reveal(), " \t\r\n")
	return len(b) > 0 && b[0] == '{'
}

// Limits limit a request's JSON: Vault's max_json_* settings of a listener, which the errors name.
// A zero field is no limit.
type Limits struct {
	Depth     int // nesting of objects and arrays
	StringLen int // bytes of one string or key, as written
	Entries   int // keys of one object
	Elements  int // elements of one array
	Tokens    int // keys, values and brackets of the whole text
}

// DefaultLimits are used without a configuration. Clients stay far below; hash-collision and
// memory attacks on JSON parsers need more.
var DefaultLimits = Limits{Depth: 300, StringLen: 1 << 20, Entries: 10_000, Elements: 10_000, Tokens: 500_000}

// MaxDepth is the deepest nesting that a [Limits] may allow: the stack has to bear
// it, here and wherever the value is walked. The standard library stops there, too.
const MaxDepth = 10_000

// Check scans b once: it must be one valid JSON value within limits, with no
// key twice in one object. It decodes nothing.
func Check(b []byte, l Limits) error {
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) || bytes.HasPrefix(b, []byte("\xff\xfe")) ||
		bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return fault.New("wire.Check", fault.Invalid,
			"the request's body begins with a byte-order mark; send JSON in UTF-8 without one")
	}
	s := scanner{b: b, limits: l}
	s.space()
	if err := s.value(1); err != nil {
		return err
	}
	s.space()
	if s.i != len(b) {
		return s.bad("text after the JSON value")
	}
	return nil
}

// A scanner walks JSON text without making values of it.
type scanner struct {
	b      []byte
	i      int
	limits Limits
	tokens int
}

func (s *scanner) bad(format string, args ...any) error {
	return fault.New("wire.Check", fault.Invalid, "the request's body is not acceptable JSON at byte %d: %s", s.i,
		fmt.Sprintf(format, args...))
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// over refuses a count above its limit, and names the setting.
func (s *scanner) over(n, limit int, what, setting string) error {
	if limit <= 0 || n <= limit {
		return nil
	}
	return s.bad("more than %d %s; send less, or raise the listener's %s", limit, what, setting)
}

// token counts one.
func (s *scanner) token() error {
	s.tokens++
	return s.over(s.tokens, s.limits.Tokens, "keys, values and brackets", "max_json_token")
}

func (s *scanner) value(depth int) error {
	if s.i >= len(s.b) {
		return s.bad("it ends too early")
	}
	if err := s.token(); err != nil {
		return err
	}
	if c := s.b[s.i]; c == '{' || c == '[' {
		if err := s.over(depth, s.limits.Depth, "levels of nesting", "max_json_depth"); err != nil {
			return err
		}
	}
	switch c := s.b[s.i]; {
	case c == '{':
		return s.object(depth)
	case c == '[':
		return s.array(depth)
	case c == '"':
		_, err := s.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return s.number()
	default:
		for _, lit := range [...]string{"true", "false", "null"} {
			if bytes.HasPrefix(s.b[s.i:], []byte(lit)) {
				s.i += len(lit)
				return nil
			}
		}
		return s.bad("unexpected character %q", c)
	}
}

func (s *scanner) object(depth int) error {
	s.i++
	s.space()
	if s.i < len(s.b) && s.b[s.i] == '}' {
		s.i++
		return s.token()
	}
	var first [8]string // most objects are small: no map for them
	seen := first[:0]
	var many map[string]struct{}
	for n := 1; ; n++ {
		s.space()
		if s.i >= len(s.b) || s.b[s.i] != '"' {
			return s.bad("want a key in quotes")
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.over(n, s.limits.Entries, "keys in one object", "max_json_object_entry_count"); err != nil {
			return err
		}
		if err := s.token(); err != nil {
			return err
		}
		name := unescape(key)
		if seen, many, err = s.unique(name, seen, many); err != nil {
			return err
		}
		s.space()
		if s.i >= len(s.b) || s.b[s.i] != ':' {
			return s.bad("want ':' after a key")
		}
		s.i++
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if done, err := s.next('}'); done || err != nil {
			return err
		}
	}
}

// unique refuses a repeated key of an object, because two parsers may use different ones.
func (s *scanner) unique(name string, seen []string, many map[string]struct{}) ([]string, map[string]struct{}, error) {
	if many != nil {
		if _, twice := many[name]; twice {
			return seen, many, s.bad("a key stands twice in one object")
		}
		many[name] = struct{}{}
		return seen, many, nil
	}
	for _, k := range seen {
		if k == name {
			return seen, many, s.bad("a key stands twice in one object")
		}
	}
	if len(seen) < cap(seen) {
		return append(seen, name), nil, nil
	}
	many = make(map[string]struct{}, 4*len(seen))
	for _, k := range append(seen, name) {
		many[k] = struct{}{}
	}
	return seen, many, nil
}

func (s *scanner) array(depth int) error {
	s.i++
	s.space()
	if s.i < len(s.b) && s.b[s.i] == ']' {
		s.i++
		return s.token()
	}
	for n := 1; ; n++ {
		if err := s.over(n, s.limits.Elements, "elements in one array", "max_json_array_element_count"); err != nil {
			return err
		}
		s.space()
		if err := s.value(depth + 1); err != nil {
			return err
		}
		if done, err := s.next(']'); done || err != nil {
			return err
		}
	}
}

// next moves past a comma, or past the closing bracket and says so.
func (s *scanner) next(end byte) (done bool, err error) {
	s.space()
	if s.i >= len(s.b) {
		return false, s.bad("it ends too early")
	}
	switch s.b[s.i] {
	case end:
		s.i++
		return true, s.token()
	case ',':
		s.i++
		return false, nil
	}
	return false, s.bad("want ',' or '%c'", end)
}

// str moves past a string and returns it with its quotes.
func (s *scanner) str() ([]byte, error) {
	from := s.i
	for s.i++; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			text := s.b[from:s.i]
			err := s.over(len(text)-2, s.limits.StringLen, "bytes in one string", "max_json_string_value_length")
			if err != nil {
				return nil, err
			}
			if !utf8.Valid(text) {
				return nil, s.bad("a string that is not UTF-8")
			}
			return text, nil
		case c == '\\':
			if err := s.escape(); err != nil {
				return nil, err
			}
		case c < 0x20:
			return nil, s.bad("a control character in a string")
		}
	}
	return nil, s.bad("a string without an end")
}

func (s *scanner) escape() error {
	s.i++
	if s.i >= len(s.b) {
		return s.bad("it ends too early")
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return nil
	case 'u':
		if s.i+4 >= len(s.b) {
			return s.bad("it ends too early")
		}
		for _, c := range s.b[s.i+1 : s.i+5] {
			if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F') {
				return s.bad("bad \\u escape")
			}
		}
		s.i += 4
		return nil
	}
	return s.bad("bad escape in a string")
}

func (s *scanner) number() error {
	digits := func() bool {
		from := s.i
		for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
			s.i++
		}
		return s.i > from
	}
	from := s.i
	if s.b[s.i] == '-' {
		s.i++
	}
	zero := s.i < len(s.b) && s.b[s.i] == '0'
	first := s.i
	if !digits() || zero && s.i-first > 1 {
		return s.bad("bad number")
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if !digits() {
			return s.bad("bad number")
		}
	}
	if s.i < len(s.b) && (s.b[s.i] == 'e' || s.b[s.i] == 'E') {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if !digits() {
			return s.bad("bad number")
		}
	}
	if s.i-from > 400 {
		return s.bad("a number of more than 400 digits")
	}
	return nil
}
