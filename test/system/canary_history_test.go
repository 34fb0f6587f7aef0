//go:build integration

package system

import (
	"fmt"
	"net/http/httptest"
	"regexp"

	"github.com/keyturn/keyturn/internal/demo/awsserver"
)

// databaseHistory makes rotations of passwords fail in ways in which PostgreSQL quotes the
// password, and looks at what the history has of them.
func (c *canaries) databaseHistory() {
	c.pg.Exec(c.t, "postgres", "CREATE ROLE app LOGIN")
	role := object{"db_name": "good", "username": "app", "rotation_period": "24h"}
	c.good("POST", "database/static-roles/app", role)
	for _, sql := range []string{
		`ALTER ROLE "{{name}}" PASSWORD {{password}}`,
		`ALTER ROLE "{{name}}" PASSWORD '{{password}}'; SELECT '{{password}}'::int`,
		`ALTER ROLE "{{name}}" PASSWORD '{{password}}'; GRANT SELECT ON "{{password}}" TO "{{name}}"`,
	} {
		c.good("POST", "database/static-roles/app", object{"rotation_statements": sql})
		if a := c.ask(c.root, "POST", "database/rotate-role/app", nil); a.Status < 400 {
			c.t.Errorf("rotating by %q: status %d, want an error", sql, a.Status)
		}
	}
	c.pg.Exec(c.t, "postgres", "CREATE ROLE rooted SUPERUSER LOGIN PASSWORD 'rooted'")
	c.good("POST", "database/config/rooted", object{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": "*", "username": "rooted", "password": "rooted",
		"connection_url":           "postgresql://{{username}}:{{password}}@" + c.pg.Addr() + "/postgres",
		"root_rotation_statements": `ALTER ROLE "{{name}}" PASSWORD {{password}}`,
	})
	c.ask(c.root, "POST", "database/rotate-root/rooted", nil)
	found := regexp.MustCompile(`ALTER ROLE "?(?:app|rooted)"? PASSWORD '?([A-Za-z0-9-]{16,})`).FindAllStringSubmatch(
		c.pg.LogTail(1<<20), -1)
	for i, m := range found {
		c.Plant(fmt.Sprintf("rotated database password %d", i), m[1])
	}
	if len(found) < 4 {
		c.t.Errorf("only %d rotated passwords are in PostgreSQL's log: this tests nothing", len(found))
	}
	c.histories("database/static-roles/app", 4)
	c.histories("database/config/rooted", 1)
}

// awsHistory makes rotations of keys at AWS fail, and looks at what the history has of them.
func (c *canaries) awsHistory() {
	secret := c.plain("AWS administrator's secret key")
	at := awsserver.New(awsserver.Options{})
	at.AddAdmin(awsserver.Account, "keyturn", awsID, secret)
	at.AddUser(awsserver.Account, "app")
	web := httptest.NewServer(at)
	c.t.Cleanup(web.Close)
	c.good("POST", "sys/mounts/aws", object{"type": "aws"})
	c.good("POST", "aws/config/root",
		object{"access_key": awsID, "secret_key": secret, "region": "us-east-1", "iam_endpoint": web.URL,
			"sts_endpoint": web.URL})
	c.good("POST", "aws/static-roles/app",
		object{"username": "app", "rotation_period": "24h", "propagation_checks": 1, "propagation_settle": "0s"})
	c.Plant("AWS secret key", c.good("GET", "aws/static-creds/app", nil).Text("data", "secret_key"))
	for _, mode := range []awsserver.Mode{awsserver.Denied, awsserver.Malformed} {
		at.Inject(awsserver.Fault{Action: "CreateAccessKey", Mode: mode, Times: 1})
		c.ask(c.root, "POST", "aws/config/rotate-root", nil)
	}
	c.histories("aws/static-roles/app", 1)
	c.histories("aws/config/root", 1)
}

// histories looks at the history of a path, and at its first rotations with what is kept of the
// replies.
func (c *canaries) histories(path string, rotations int) {
	c.t.Helper()
	c.clean("the history of "+path, c.good("GET", path+"/history?steps=true", nil).Body)
	for n := 1; n <= rotations; n++ {
		a := c.good("GET", fmt.Sprintf("%s/history?rotation=%d&steps=true", path, n), nil)
		c.clean("the history of "+path, a.Body)
		if a.Get("data", "steps") == nil {
			c.t.Errorf("of rotation %d of %s nothing is kept: this tests nothing", n, path)
		}
	}
}
