package database

import (
	"bytes"
	"slices"
	"time"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// configIn is a write of a connection. Nil fields were not sent.
type configIn struct {
	Name      string         `path:"name" doc:"The connection's name."`
	Plugin    *string        `json:"plugin_name" doc:"The kind of database, such as postgresql-database-plugin."`
	Version   *string        `json:"plugin_version" doc:"Accepted without effect: the kinds of database are built in."`
	Verify    **bool         `json:"verify_connection" default:"true" doc:"Whether the write is refused when the database cannot be reached."`
	Allowed   *[]string      `json:"allowed_roles" default:"none" doc:"The roles that may use the connection; * stands for all."`
	URL       *secret.Value  `json:"connection_url" max:"65536" doc:"How to reach the database, with {{username}} and {{password}} as placeholders."`
	Username  *string        `json:"username" max:"1024" doc:"The administrator's name."`
	Password  *secret.Value  `json:"password" max:"4096" doc:"The administrator's password."`
	RootSQL   *statements    `json:"root_rotation_statements" doc:"Statements that change the administrator's password, with {{name}} and {{password}}. By default, those of the kind of database."`
	Policy    *string        `json:"password_policy" default:"20 letters, digits and dashes" doc:"The password policy that new passwords follow."`
	Template  *string        `json:"username_template" default:"v-token-role-random-time" doc:"A template for user names, with fields and functions."`
	Auth      *string        `json:"password_authentication" default:"password" doc:"How the database keeps passwords: password or scram-sha-256."`
	NoEscape  *bool          `json:"disable_escaping" default:"false" doc:"Whether name and password are inserted into connection_url without escaping."`
	MaxOpen   *int           `json:"max_open_connections" default:"4" doc:"How many connections at most; below zero: no limit."`
	MaxIdle   *int           `json:"max_idle_connections" default:"max_open_connections" doc:"How many idle connections are kept; below zero: none."`
	Lifetime  *time.Duration `json:"max_connection_lifetime" default:"10m" doc:"The age at which a connection is closed and replaced; 0s: the default."`
	CA        *string        `json:"tls_ca" doc:"The authority that signed the database's certificate, in PEM."`
	Cert      *string        `json:"tls_certificate" doc:"The client's certificate, in PEM."`
	Key       *secret.Value  `json:"private_key" doc:"The client certificate's key, in PEM."`
	Terminate *bool          `json:"terminate_sessions" default:"false" doc:"Whether revocation ends the sessions of a user."`

	Self *bool `json:"self_managed" default:"false" doc:"Whether there is no administrator: the users of static roles change their own passwords."`

	rootScheduleIn
	unsupportedIn

	//lint:ignore SA5008 the option is wire's: the kind's own settings, and unknown parameters
	Rest map[string]wire.Raw `json:",rest"`
}

// rootScheduleIn says when the administrator's password is rotated automatically.
type rootScheduleIn struct {
	Period   *time.Duration `json:"rotation_period" default:"never" doc:"How often the administrator's password changes. Excludes rotation_schedule."`
	Schedule *string        `json:"rotation_schedule" default:"never" doc:"When it changes: cron, five fields, UTC. Excludes rotation_period."`
	Window   *time.Duration `json:"rotation_window" default:"none" doc:"How long after the schedule's time a change may begin, 1h or more."`
	Off      *bool          `json:"disable_automated_rotation" default:"false" doc:"Whether it changes only by rotate-root."`
}

func (in *rootScheduleIn) apply(w *cron.When) {
	w.Apply(cron.Change{Period: in.Period, Schedule: in.Schedule, Window: in.Window, Off: in.Off})
}

// unsupportedIn are fields of the reference that are not implemented yet.
type unsupportedIn struct {
	AuthType wire.Raw `json:"auth_type" doc:"Not implemented yet; refused."`
	Account  wire.Raw `json:"service_account_json" doc:"Not implemented yet; refused."`
}

func (l *unsupportedIn) refuse() error {
	for _, f := range []struct {
		name string
		v    wire.Raw
	}{
		{name: "auth_type", v: l.AuthType}, {name: "service_account_json", v: l.Account},
	} {
		unset := f.v.IsNull() ||
			slices.Contains([]string{`""`, "0", `"0"`, "false", `"false"`}, string(bytes.TrimSpace(f.v.Reveal())))
		if !unset {
			return invalid("field %q: it is not implemented yet; leave it out, and use username and password", f.name)
		}
	}
	return nil
}

// configOut is a connection in an answer.
type configOut struct {
	Allowed []string       `json:"allowed_roles"`
	Details map[string]any `json:"connection_details"`
	Policy  string         `json:"password_policy"`
	Plugin  string         `json:"plugin_name"`
	Version string         `json:"plugin_version"`
	RootSQL []string       `json:"root_credentials_rotate_statements"`

	Off       bool      `json:"disable_automated_rotation,omitempty"`
	Last      time.Time `json:"last_root_rotation,omitempty"`
	Next      time.Time `json:"next_root_rotation,omitempty"`
	LastError string    `json:"last_root_error,omitempty"`

	timing
}
