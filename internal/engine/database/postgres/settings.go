package postgres

// appName is the name of sessions that run no create.
const appName = "keyturn"

// settings are the settings of a connection by libpq's names ("dbname", "host").
type settings map[string]string

// secretKeys are settings that are never shown.
var secretKeys = []string{"password", "sslpassword"}

var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

const (
	userMark     = "{{username}}"
	passwordMark = "{{password}}"
	masked       = "*****"
)
