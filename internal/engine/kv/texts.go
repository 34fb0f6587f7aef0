package kv

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// texts returns the fields of a secret whose values are text.
func texts(data []byte) (map[string]secret.Value, error) {
	out := map[string]secret.Value{}
	if len(data) == 0 {
		return out, nil
	}
	return out, wire.EachField(data, func(name string, value []byte) error {
		if len(value) > 0 && value[0] == '"' {
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return fault.New("kv.texts", fault.Internal, "the field %q is no text that can be read", name)
			}
			out[name] = secret.Text(text)
		} else {
			delete(out, name)
		}
		return nil
	})
}

func decodeNumbers(b []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var x any
	if err := d.Decode(&x); err != nil {
		return nil, fault.Wrap("kv.decodeNumbers", fault.Internal, err)
	}
	return x, nil
}

// encodeText encodes a value as json.Marshal does, but leaves <, > and & as they are.
func encodeText(op string, v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fault.Wrap(op, fault.Internal, err)
	}
	return bytes.TrimSpace(buf.Bytes()), nil
}

// fieldText is the text of a string or number member of a JSON object, or "".
func fieldText(body []byte, name string) (text string) {
	_ = wire.EachField(body, func(k string, v []byte) error {
		if k == name {
			text = scalarText(v)
		}
		return nil
	})
	return text
}

// scalarText is the text of a JSON string or number, or "".
func scalarText(v []byte) string {
	var s struct {
		V string `json:"v"`
	}
	if len(v) > 0 && v[0] != '{' && v[0] != '[' {
		if _, err := wire.Decode(append(append([]byte(`{"v":`), v...), '}'), &s); err != nil {
			return ""
		}
	}
	return s.V
}

// someTexts returns the text of some members of a JSON object. A member that is absent, null or
// empty has none; that of an object, a list or a truth value is its JSON. It costs little if the
// names do not occur.
func someTexts(data []byte, names ...string) map[string]string {
	if !slices.ContainsFunc(names, func(name string) bool { return bytes.Contains(data, []byte(name)) }) {
		return nil
	}
	out := map[string]string{}
	_ = wire.EachField(data, func(name string, v []byte) error {
		if slices.Contains(names, name) {
			text := scalarText(v)
			if text == "" && string(v) != `""` && string(v) != "null" {
				text = string(v)
			}
			out[name] = text
		}
		return nil
	})
	return out
}
