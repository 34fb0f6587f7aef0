package redis

import (
	"errors"
	"testing"

	"github.com/keyturn/keyturn/internal/costtest"
)

// FuzzReplyCost: reading what a server answers costs a bounded number of steps for each byte.
func FuzzReplyCost(f *testing.F) {
	const limit = 1 << 20
	costtest.Fuzz(f, costtest.Parser{Limit: limit, Steps: 1000, Parse: func(text string) error {
		if len(text) > limit {
			return errors.New("too long for this test; a reply has its own limits")
		}
		var s scanner
		_ = s.scan([]byte(text))
		named(text, "keyturn-a")
		_, _ = parseNodes(text, server{address: "a:1"})
		return nil
	}}, costtest.Shape{Head: "*100000\r\n", Unit: ":1\r\n"}, costtest.Shape{Unit: "*1\r\n"}, costtest.Shape{Unit: "+"},
		costtest.Shape{Head: "$1000000\r\n", Unit: "a"}, costtest.Shape{Unit: "*0\r\n"},
		costtest.Shape{Unit: "id=§ name=keyturn-a\n"}, costtest.Shape{Unit: "id=1 "},
		costtest.Shape{Unit: "i 127.0.0.1:1@1 master - 0 0 1 connected 1\n"}, costtest.Shape{Head: "i ", Unit: ":1@,"},
		costtest.Shape{Head: "*100000\r\n", Unit: "*100000\r\n"})
}
