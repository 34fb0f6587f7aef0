package redis

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/engine/database/databasetest"
	"github.com/keyturn/keyturn/internal/secret"
)

func TestEndlessServer(t *testing.T) {
	many := func(one string) []byte { return bytes.Repeat([]byte(one), 64<<10/len(one)+1) }
	databasetest.Endless(t, Provider, func(host string, port int) database.Config {
		return database.Config{Username: "u", Password: secret.Text("p"),
			Extra: map[string]string{"host": host, "port": strconv.Itoa(port)}}
	}, map[string][2][]byte{
		"a line":       {[]byte("-"), many("x")},
		"a large bulk": {[]byte("$1000000000\r\n"), many("x")},
		"a long list":  {[]byte("*1000000000\r\n"), many(":1\r\n")},
		"lists":        {nil, many("*60000\r\n")},
		"small values": {[]byte("*60000\r\n"), many("*8\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n")},
	})
}
