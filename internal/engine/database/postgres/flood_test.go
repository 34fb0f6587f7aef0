package postgres

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/secret"
)

// wireMessage is one message of the protocol.
func wireMessage(kind byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}

func TestEndlessServer(t *testing.T) {
	ready := append(wireMessage('R', "\x00\x00\x00\x00"), wireMessage('Z', "I")...)
	many := func(one []byte) []byte { return bytes.Repeat(one, 64<<10/len(one)+1) }
	databasetest.Endless(t, Provider, func(host string, port int) database.Config {
		return database.Config{URL: secret.Text(fmt.Sprintf("postgresql://u:p@%s:%d/d?sslmode=disable", host, port))}
	}, map[string][2][]byte{
		"notices":  {nil, many(wireMessage('N', "SNOTICE\x00Mx\x00\x00"))},
		"settings": {wireMessage('R', "\x00\x00\x00\x00"), many(wireMessage('S', "a\x00b\x00"))},
		"one large error": {append([]byte("E\x3f\xff\xff\xffSERROR\x00C42601\x00M"), make([]byte, 1000)...),
			bytes.Repeat([]byte("x"), 64<<10)},
		"a long error": {wireMessage('E',
			"SFATAL\x00C28P01\x00M"+string(bytes.Repeat([]byte("x"), 3<<20))+"\x00\x00"), wireMessage('N', "\x00")},
		"rows": {append(ready, wireMessage('T', "\x00\x01a\x00"+string(make([]byte, 18)))...),
			many(wireMessage('D', "\x00\x01\x00\x00\x00\x01x"))},
		"results": {ready, many(wireMessage('C', "SELECT 1\x00"))},
	})
}
