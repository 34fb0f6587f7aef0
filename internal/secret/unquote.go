package secret

import (
	"encoding/json"
	"errors"
)

func unquote(b []byte) (string, error) {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return "", errors.New("secret: want a string")
	}
	return s, nil
}
