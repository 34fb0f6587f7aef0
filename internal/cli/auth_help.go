package cli

import (
	"context"
	"fmt"
	"strings"
)

// loginUsages maps each type of method that login supports to its arguments and a description.
var loginUsages = map[string]struct{ args, about string }{
	"token": {"[TOKEN]", "Logs in with a token that exists. Without an argument it is asked for."},
	"userpass": {"username=NAME [password=…]",
		"Logs in with a user name and a password, which is asked for when it is missing."},
	"ldap": {"username=NAME [password=…]",
		"Logs in with a name and a password of an LDAP directory. The password is asked for\nwhen it is missing."},
	"okta": {"username=NAME [password=…]",
		"Logs in with a name and a password of Okta. The password is asked for when it is\nmissing."},
	"radius": {"username=NAME [password=…]",
		"Logs in with a name and a password of a RADIUS server. The password is asked for\nwhen it is missing."},
	"approle": {"role_id=ID [secret_id=@FILE]", "Logs a program in by its role."},
	"kubernetes": {"role=NAME jwt=@/var/run/secrets/kubernetes.io/serviceaccount/token",
		"Logs a pod in by the token of its service account."},
	"jwt":    {"role=NAME jwt=@FILE", "Logs in with a signed token of another issuer."},
	"cert":   {"[name=ROLE] -client-cert=FILE -client-key=FILE", "Logs in with a TLS client certificate."},
	"github": {"token=@FILE", "Logs in with a personal access token of GitHub."},
}

// authHelp is "auth help".
func authHelp() *command {
	return &command{
		name: "help", short: "Show how to log in by an auth method", args: "TYPE | PATH", min: 1, max: 1,
		long: "Shows how to log in by a type of auth method, or by the one that is enabled at a\npath.",
		examples: []example{
			{"Show how to log in with a token:", "keyturn auth help token"},
			{"Show how to log in by the method at auth/people/:", "keyturn auth help people/"},
		},
		run: func(ctx context.Context, s *session) error {
			if _, known := loginUsages[s.args[0]]; known {
				return s.out.write(loginUsage(s.name, s.args[0], ""))
			}
			path, err := folder(s.args[0])
			if err != nil {
				return err
			}
			sec, err := s.send(ctx, call{op: "read", path: authKind.api, doing: "listing each " + authKind.what})
			if err != nil {
				return err
			}
			kind := ""
			if sec != nil {
				mount, _ := sec.Data[string(path)+"/"].(map[string]any)
				kind = text(mount["type"])
			}
			if kind == "" {
				return hinted(
					refuse(exitLocal,
						"Error: %q is neither a type of auth method that login knows nor one that is enabled",
						s.args[0]),
					"%q lists the enabled methods; login supports the types %s.", s.name+" auth list",
					strings.Join(sortedKeys(loginUsages), ", "))
			}
			return s.out.write(loginUsage(s.name, kind, string(path)))
		},
	}
}

// loginUsage says how to log in with a type of method that is mounted at path.
func loginUsage(program, kind, path string) string {
	line := program + " login -method=" + kind
	if path != "" && path != kind {
		line += " -path=" + path
	}
	use, known := loginUsages[kind]
	if !known {
		use.args = "[K=V ...]"
		use.about = "Logs in by sending the fields that are given to the method's login endpoint."
	}
	at := path
	if at == "" {
		at = kind
	}
	return fmt.Sprintf("Usage: %s %s\n\n%s\n  What the server takes there: %s path-help auth/%s\n", line, use.args,
		indent(use.about, "  "),
		program, at)
}
