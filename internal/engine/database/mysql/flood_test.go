package mysql

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestEndlessServer(t *testing.T) {
	// Packets of the largest size, so that each is continued by the next. The protocol numbers
	// them.
	var packets []byte
	for n := range 3 {
		packets = append(append(packets, 0xff, 0xff, 0xff, byte(n)), bytes.Repeat([]byte("x"), 0xffffff)...)
	}
	databasetest.Endless(t, Provider, func(host string, port int) database.Config {
		return database.Config{URL: secret.Text(fmt.Sprintf("u:p@tcp(%s:%d)/", host, port))}
	}, map[string][2][]byte{
		"a packet without an end": {packets, bytes.Repeat([]byte("x"), 64<<10)},
		"a long error": {append([]byte{0xf0, 0xff, 0xff, 0, 0xff, 0x15, 0x04, '#'},
			bytes.Repeat([]byte("x"), 0xfffff0)...), nil},
		"noise": {nil, bytes.Repeat([]byte{0xff}, 64<<10)},
	})
}
