package mysql

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// passwordParams decide in which form the password is sent. The other accepted parameters change
// neither that nor the server; tls is the guard.
var passwordParams = []string{"allowCleartextPasswords", "allowNativePasswords"}

// The protection of connections, the strictest last.
const (
	unguarded = iota
	encrypted
	verified
)

// destination implements [database.Provider].Destination.
func destination(c database.Config) (database.Destination, bool) {
	d, err := split(c.URL.RevealString())
	if err != nil || c.DisableEscaping { // a value that is filled in could change how the URL is parsed
		return database.Destination{}, false
	}
	parsed, err := mysql.ParseDSN(d.address + "/?" + d.query)
	if err != nil {
		return database.Destination{}, false
	}
	t, err := checkTLS(c, parsed)
	if err != nil {
		return database.Destination{}, false
	}
	if !d.withUser {
		d.user = userMark
	}
	var more []string
	for pair := range strings.SplitSeq(d.query, "&") {
		if key, _, _ := strings.Cut(pair, "="); slices.Contains(passwordParams, key) {
			more = append(more, pair)
		}
	}
	slices.Sort(more)
	place := fmt.Sprintf("%q %q %q %q %q %q", d.user, parsed.Net, parsed.Addr, d.database, c.Extra["tls_server_name"],
		more)
	switch {
	case t == nil:
		return database.Destination{Place: place, Guard: unguarded}, true
	case t.InsecureSkipVerify:
		return database.Destination{Place: place, Guard: encrypted}, true
	}
	return database.Destination{Place: place, Guard: verified}, true
}
