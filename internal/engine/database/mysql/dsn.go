package mysql

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

const (
	userMark     = "{{username}}"
	passwordMark = "{{password}}"
	masked       = "*****"
)

// A dsn has the parts of a connection_url,
// [user[:password]@][protocol[(address)]]/[database][?key=value[&...]].
type dsn struct {
	user            string
	password        secret.Value
	address         string // with its protocol
	database, query string

	withUser, withPassword bool
}

var errForm = errors.New("connection_url must have the form {{username}}:{{password}}@tcp(host:3306)/database, in " +
	"which the database may be empty and the / before it may not; a password with special characters belongs into " +
	"the field for it")

// addressForm matches a protocol and an address, each of which may be missing.
var addressForm = regexp.MustCompile(`^[a-zA-Z0-9_+-]*(\([^()@]*\))?$`)

// split splits a connection_url as the driver does: at its last /, and at the last @ before that.
func split(text string) (d dsn, err error) {
	if len(text) > database.MaxURL {
		return d, fmt.Errorf("connection_url is longer than %d bytes: shorten it", database.MaxURL)
	}
	text = strings.TrimSpace(text)
	if strings.ContainsRune(text, 0) {
		return d, errors.New("connection_url has a NUL byte in it: remove it")
	}
	if strings.Contains(text, "://") {
		return d, fmt.Errorf("connection_url is not a URL with a scheme here: %w", errForm)
	}
	slash := strings.LastIndexByte(text, '/')
	if slash < 0 {
		return d, errForm
	}
	// If the last / is missing, a / in the password would be taken for it, and the end of the
	// password for parameters.
	if strings.ContainsAny(text[slash+1:], "@()") {
		return d, errForm
	}
	d.database, d.query, _ = strings.Cut(text[slash+1:], "?")
	d.address = text[:slash]
	if at := strings.LastIndexByte(d.address, '@'); at >= 0 {
		d.withUser = true
		user, password, found := strings.Cut(d.address[:at], ":")
		d.user, d.password, d.withPassword = user, secret.Text(password), found
		d.address = d.address[at+1:]
	}
	if !addressForm.MatchString(d.address) {
		return dsn{}, errForm
	}
	return d, nil
}

// accepted are the parameters that a connection_url may have. The other parameters of the driver
// read local files, allow weak logins, or set session variables that this package sets.
var accepted = []string{
	"allowCleartextPasswords", "allowNativePasswords", "charset", "checkConnLiveness", "clientFoundRows", "collation",
	"columnsWithAlias", "interpolateParams", "loc", "maxAllowedPacket", "multiStatements", "parseTime", "readTimeout",
	"rejectReadOnly", "timeout", "tls", "writeTimeout",
}

// maxProblems limits the parameters that one error names.
const maxProblems = 5

// known are other common parameters of the driver, of JDBC and of the server. An error names only
// these, because anything else may be part of the password.
var known = []string{
	"allowAllFiles", "allowFallbackToPlaintext", "allowLoadLocalInfile", "allowMultiQueries", "allowOldPasswords",
	"allowPublicKeyRetrieval", "autocommit", "autoReconnect",
	"characterEncoding", "clientCertificateKeyStoreUrl", "compress", "connectTimeout", "connectionAttributes",
	"enabledTLSProtocols", "foreign_key_checks", "innodb_lock_wait_timeout",
	"lock_wait_timeout", "max_execution_time", "requireSSL", "rewriteBatchedStatements", "serverPubKey",
	"serverRSAPublicKeyFile", "serverTimezone", "socketTimeout",
	"sql_mode", "ssl", "ssl-ca", "ssl-cert", "ssl-key", "ssl-mode", "sslMode", "sslmode", "timeTruncate", "time_zone",
	"transaction_isolation",
	"trustCertificateKeyStoreUrl", "tx_isolation", "useSSL", "useUnicode", "verifyServerCertificate", "wait_timeout",
	"zeroDateTimeBehavior",
}

// refusal is the error for a parameter that is not accepted. It names only a known parameter.
func refusal(key string) error {
	if !slices.Contains(known, key) {
		key = "a parameter"
	} else {
		key = "the parameter " + strconv.Quote(key)
	}
	return fmt.Errorf("connection_url has %s that is not accepted: remove it; accepted are %s", key,
		strings.Join(accepted, ", "))
}

// unreadable is the error for the accepted parameter whose value the driver refuses.
func unreadable(query string) error {
	for pair := range strings.SplitSeq(query, "&") {
		if _, err := mysql.ParseDSN("tcp(host:3306)/?" + pair); pair != "" && err != nil {
			key, _, _ := strings.Cut(pair, "=")
			return fmt.Errorf("connection_url has a value of the parameter %q that cannot be: durations are written "+
				"as 5s, flags as true or false, and tls is true, false, skip-verify or preferred", key)
		}
	}
	return errors.New("connection_url cannot be read: check the address, as in tcp(host:3306), and the values of " +
		"the parameters after ?")
}

// parseDSN parses connection_url and fills in the credentials after splitting it, so that no
// character in them is a delimiter. Errors have texts of their own, because those of the driver
// may contain the password.
func parseDSN(c database.Config) (*mysql.Config, error) {
	text := c.URL.RevealString()
	if strings.TrimSpace(text) == "" {
		return nil, errors.New("connection_url is empty: give one such as {{username}}:{{password}}@tcp(host:3306)/")
	}
	d, err := split(text)
	if err != nil {
		return nil, err
	}
	var problems []error
	for pair := range strings.SplitSeq(d.query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key == "charset" && !strings.HasPrefix(value, "utf8") {
			problems = append(problems, errors.New("connection_url has a charset that is not utf8mb4: remove it"))
		}
		if pair != "" && !slices.Contains(accepted, key) {
			problems = append(problems, refusal(key))
		}
		if len(problems) >= maxProblems {
			break
		}
	}
	if strings.Contains(text, userMark) && c.Username == "" {
		problems = append(problems, errors.New("username is empty, and connection_url has {{username}} in it"))
	}
	if strings.Contains(text, passwordMark) && c.Password.Empty() && c.TLSCertificate == "" &&
		c.Hidden["tls_certificate_key"].Empty() {
		problems = append(problems, errors.New("password is empty, and connection_url has {{password}} in it: give "+
			"it, or a client certificate by tls_certificate_key"))
	}
	if strings.Contains(d.address+d.query, "{{") {
		problems = append(problems,
			errors.New("connection_url has a placeholder outside of its user, password and database"))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	parsed, err := mysql.ParseDSN(d.address + "/?" + d.query)
	if err != nil {
		return nil, unreadable(d.query)
	}
	if !slices.Contains([]string{"tcp", "tcp4", "tcp6", "unix"}, parsed.Net) {
		return nil, errors.New("connection_url has an unknown protocol: write tcp(host:3306)")
	}
	fill := strings.NewReplacer(userMark, c.Username, passwordMark, c.Password.RevealString())
	parsed.User, parsed.Passwd, parsed.DBName = fill.Replace(d.user), fill.Replace(
		d.password.RevealString()), fill.Replace(d.database)
	if !d.withUser {
		parsed.User = c.Username
	}
	if !d.withPassword {
		parsed.Passwd = c.Password.RevealString()
	}
	return parsed, checkAddress(parsed)
}

func checkAddress(d *mysql.Config) error {
	if d.User == "" {
		return errors.New("username is empty, and connection_url names none")
	}
	if d.Net == "unix" {
		return nil
	}
	host, port, err := net.SplitHostPort(d.Addr)
	if err != nil || host == "" || port == "" {
		return errors.New(
			"connection_url names no host and port: write tcp(host:3306), with an IPv6 address in brackets")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("connection_url has a port that is not a number from 1 to 65535")
	}
	return nil
}

// display masks the password in a connection URL. A URL that cannot be parsed is masked as a
// whole.
func display(url secret.Value) string {
	text := strings.TrimSpace(url.RevealString())
	if text == "" {
		return ""
	}
	d, err := split(text)
	if err != nil {
		return masked
	}
	if _, err := mysql.ParseDSN(d.address + "/?" + d.query); err != nil {
		return masked // a part of a password may be in place of an address
	}
	if d.password.Empty() || d.password.RevealString() == passwordMark {
		return text
	}
	out := d.user + ":" + masked + "@" + d.address + "/" + d.database
	if d.query != "" {
		out += "?" + d.query
	}
	return out
}
