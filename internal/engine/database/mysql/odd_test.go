package mysql

import (
	"testing"

	"github.com/go-sql-driver/mysql"
)

// TestPorts checks that an impossible port is refused.
func TestPorts(t *testing.T) {
	for address, ok := range map[string]bool{"db:3306": true, "[::1]:1": true, "db:99999": false, "db:0": false,
		"db:x": false, "db": false, ":3306": false, "db:": false, "db:1": true, "db:65535": true} {
		if err := checkAddress(&mysql.Config{User: "u", Net: "tcp", Addr: address}); (err == nil) != ok {
			t.Errorf("%s: %v", address, err)
		}
	}
}
