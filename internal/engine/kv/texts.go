package kv

import (
	"bytes"
	"encoding/json"

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
func fieldText(body []byte, name string) string {
	var in struct {
		V *string
	}
	_ = wire.EachField(body, func(k string, v []byte) error {
		if k == name && len(v) > 0 && v[0] != '{' && v[0] != '[' {
			var s struct {
				V string `json:"v"`
			}
			text := append(append([]byte(`{"v":`), v...), '}')
			if _, err := wire.Decode(text, &s); err == nil {
				in.V = &s.V
			}
		}
		return nil
	})
	if in.V == nil {
		return ""
	}
	return *in.V
}
