package wire

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. HTML is not escaped; invalid UTF-8
// becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(append(dst, s[from:i]...), "\ufffd"...)
				from = i + 1
			}
			i += n
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[from:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\t':
			dst = append(dst, '\\', 't')
		case '\r':
			dst = append(dst, '\\', 'r')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		from = i
	}
	return append(append(dst, s[from:]...), '"')
}

// A TTL is a duration for which the server has a default: "system" and 0 mean the default, and are
// 0.
type TTL time.Duration

// A Lifetime is a duration that can be endless: a negative one is endless, and is -1.
type Lifetime time.Duration

func (t *TTL) setText(text string) error {
	if text == "system" {
		*t = 0
		return nil
	}
	d, err := ParseDuration(text)
	*t = TTL(d)
	return err
}

func (l *Lifetime) setText(text string) error {
	positive, endless := strings.CutPrefix(text, "-")
	d, err := ParseDuration(positive)
	switch {
	case err != nil:
		return fmt.Errorf(`%w; "-1s" means never`, err)
	case endless && strings.TrimSpace(positive) == "":
		return fmt.Errorf(`%w; "-1s" means never`, errDuration)
	case endless && d > 0:
		d = -1
	}
	*l = Lifetime(d)
	return nil
}

// A textSetter is read from the text of a string, number or boolean.
type textSetter interface{ setText(text string) error }
