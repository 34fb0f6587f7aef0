package wire

import (
	"encoding/json"
)

// unescape decodes a JSON string with its quotes.
func unescape(quoted []byte) string {
	plain := true
	for _, c := range quoted {
		if c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		return string(quoted[1 : len(quoted)-1])
	}
	var s string
	_ = json.Unmarshal(quoted, &s) // the scanner has checked it
	return s
}

// scalar is the text of a JSON string, number or boolean.
func scalar(b []byte) (string, bool) {
	if len(b) == 0 {
		return "", false
	}
	switch b[0] {
	case '"':
		return unescape(b), true
	case '{', '[':
		return "", false
	}
	return string(b), true
}
