package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/hostfile"
)

// maxInput limits a file or standard input to the size of a request that a server accepts by
// default.
const maxInput = 32 << 20

// A dataParser turns arguments into the fields of a request, by Vault's rules:
//
//	key=value     split at the first equal sign; the value stays text
//	key=@file     the value is the file's content, all of it
//	key=\@text    the value begins with an at sign
//	key=-         the value is standard input, all of it
//	@file         the file is a JSON object of fields; its name has no equal sign
//	-             standard input is a JSON object of fields
//
// A key given twice becomes a list. Standard input can be used once. Data that is not UTF-8 is
// refused, because JSON would change it.
type dataParser struct {
	stdin io.Reader
	used  bool
	data  map[string]any
}

// parseData parses args with a dataParser. The map is never nil without an error.
func parseData(stdin io.Reader, args []string) (map[string]any, error) {
	p := dataParser{stdin: stdin, data: map[string]any{}}
	for i, arg := range args {
		if err := p.add(arg); err != nil {
			return nil, usageError{fmt.Errorf("argument %d: %w", i+1, err)}
		}
	}
	return p.data, nil
}

func (p *dataParser) add(arg string) error {
	switch {
	case arg == "-":
		b, err := p.readStdin()
		if err != nil {
			return err
		}
		return p.addObject(b, "standard input")
	case strings.HasPrefix(arg, "@") && !strings.Contains(arg, "="):
		b, err := hostfile.ReadNamed(arg[1:], maxInput)
		if err != nil {
			return err
		}
		return p.addObject(b, arg[1:])
	}
	key, text, ok := strings.Cut(arg, "=")
	if !ok {
		return errors.New("it is not of the form key=value")
	}
	if key == "" {
		return errors.New("there is no key before the equal sign")
	}
	value, err := p.value(text)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if !utf8.ValidString(key) || !utf8.ValidString(value) {
		return fmt.Errorf("%s is not UTF-8 text, which JSON cannot carry; encode it, as with base64",
			strings.ToValidUTF8(key, "?"))
	}
	p.put(key, value)
	return nil
}

// value returns the value for the text after an equal sign.
func (p *dataParser) value(text string) (string, error) {
	switch {
	case text == "-":
		b, err := p.readStdin()
		return string(b), err
	case strings.HasPrefix(text, "@"):
		b, err := hostfile.ReadNamed(text[1:], maxInput)
		return string(b), err
	case strings.HasPrefix(text, `\@`):
		return text[1:], nil
	}
	return text, nil
}

func (p *dataParser) readStdin() ([]byte, error) {
	if p.used {
		return nil, errors.New("standard input was read by an earlier argument")
	}
	p.used = true
	return hostfile.ReadStream(p.stdin, maxInput)
}

// addObject adds the fields of a JSON object. Numbers keep all their digits.
func (p *dataParser) addObject(b []byte, origin string) error {
	if bytes.HasPrefix(b, []byte("\xef\xbb\xbf")) || bytes.HasPrefix(b, []byte("\xff\xfe")) ||
		bytes.HasPrefix(b, []byte("\xfe\xff")) {
		return fmt.Errorf("%s begins with a byte-order mark; save it in UTF-8 without one", origin)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var object map[string]any
	err := d.Decode(&object)
	if _, other := errors.AsType[*json.UnmarshalTypeError](err); other || err == nil && object == nil {
		return fmt.Errorf("%s is JSON, but no object", origin)
	}
	if err != nil {
		return fmt.Errorf("%s is not a JSON object: %w", origin, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%s has more than one JSON object", origin)
	}
	for key, value := range object {
		p.put(key, value)
	}
	return nil
}

func (p *dataParser) put(key string, value any) {
	old, again := p.data[key]
	if !again {
		p.data[key] = value
		return
	}
	if list, ok := old.([]any); ok {
		p.data[key] = append(list, value)
		return
	}
	p.data[key] = []any{old, value}
}

// query converts fields to the parameters of a request without a body.
func query(data map[string]any) map[string][]string {
	q := map[string][]string{}
	for key, value := range data {
		list, ok := value.([]any)
		if !ok {
			list = []any{value}
		}
		for _, v := range list {
			q[key] = append(q[key], fmt.Sprint(v))
		}
	}
	return q
}
