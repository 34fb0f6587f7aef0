package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/cliconfig"
)

// loginFlags are the flags of login.
type loginFlags struct {
	method, path                 string
	noStore, noPrint, tokenAlone bool
}

func (l *loginFlags) declare(f *flags) {
	f.String(&l.method, "method", "name",
		"how to log in: token (the default), userpass, approle, kubernetes, jwt, cert …")
	f.String(&l.path, "path", "path", "where the method is mounted; its name by default")
	f.Bool(&l.noStore, "no-store", "do not hand the token to the token helper")
	f.Bool(&l.noPrint, "no-print", "print nothing")
	f.Bool(&l.tokenAlone, "token-only", "print the token alone and do not store it")
}

func loginCommand() *command {
	var l loginFlags
	return &command{
		name: "login", short: "Log in and keep the token", args: "[TOKEN | K=V ...]", max: -1, fields: true,
		long: "Logs in and stores the token for the commands that follow, in ~/.vault-token or\nwith the token " +
			"helper that ~/.vault names. A token may be given, come from standard\ninput (-), or be asked for. " +
			"Other methods take key=value; a password that is\nmissing is asked for.",
		examples: []example{
			{"Log in with a token that is asked for:", "keyturn login"},
			{"Log in with a user name; the password is asked for:", "keyturn login -method=userpass username=alice"},
			{"Get a token for a script:", "keyturn login -token-only -method=approle role_id=… secret_id=@secret-id"},
		},
		flags: l.declare,
		run: func(ctx context.Context, s *session) error {
			client, err := s.connect()
			if err != nil {
				return err
			}
			if l.tokenAlone {
				s.out.field, l.noStore = "token", true
			}
			var sec *api.Secret
			if l.method == "" || l.method == "token" {
				sec, err = s.loginWithToken(ctx, client, !l.noStore)
			} else {
				sec, err = s.loginWithMethod(ctx, client, l)
			}
			if err != nil {
				return err
			}
			return s.finishLogin(sec, l)
		},
	}
}

// loginWithToken looks a token up and returns it as the answer of a login.
func (s *session) loginWithToken(ctx context.Context, client *client, willStore bool) (*api.Secret, error) {
	if given, ok := strings.CutPrefix(first(s.args), "token="); ok {
		s.args[0] = given
	}
	if len(s.args) > 1 {
		return nil, usagef("too many arguments: one token is enough")
	}
	token, err := s.argumentOrPrompt(ctx, "Token (will be hidden): ")
	if err != nil {
		return nil, err
	}
	if token.Empty() {
		return nil, usagef("the token is empty")
	}
	client.api.SetToken(token.RevealString())
	var sec *api.Secret
	lookup := func() error {
		sec, err = client.api.Auth().Token().LookupSelfWithContext(ctx)
		return err
	}
	if willStore && !client.asCurl && !client.asPolicy { // a wrapped answer could not be stored
		err = client.auxiliary(lookup)
	} else {
		err = lookup()
	}
	if err != nil {
		return nil, remote(err, "authenticating: looking up the token")
	}
	if sec.WrapInfo != nil {
		return sec, nil
	}
	auth, err := authOf(sec, token.RevealString())
	return &api.Secret{RequestID: sec.RequestID, Auth: auth, Warnings: sec.Warnings},
		remote(err, "reading the token's properties")
}

// authOf converts the answer of a token lookup to that of a login.
func authOf(sec *api.Secret, token string) (*api.SecretAuth, error) {
	auth := &api.SecretAuth{ClientToken: token}
	var err error
	if auth.Accessor, err = sec.TokenAccessor(); err != nil {
		return nil, err
	}
	if auth.Renewable, err = sec.TokenIsRenewable(); err != nil {
		return nil, err
	}
	ttl, err := sec.TokenTTL()
	if err != nil {
		return nil, err
	}
	auth.LeaseDuration = int(ttl.Seconds())
	if auth.Metadata, err = sec.TokenMetadata(); err != nil {
		auth.Metadata = nil // a token may have none, in several spellings
	}
	if auth.Policies, err = sec.TokenPolicies(); err != nil {
		return nil, err
	}
	if sec.Auth != nil { // TokenPolicies has set it, if the answer has policies
		auth.TokenPolicies, auth.IdentityPolicies = sec.Auth.TokenPolicies, sec.Auth.IdentityPolicies
	}
	return auth, nil
}

// loginWithMethod sends the fields to the method's login endpoint. For methods with user names,
// the name is part of the path, and a missing password is asked for.
func (s *session) loginWithMethod(ctx context.Context, client *client, l loginFlags) (*api.Secret, error) {
	data, err := parseData(s.env.Stdin, s.args)
	if err != nil {
		return nil, err
	}
	if l.path == "" {
		l.path = l.method
	}
	mount, err := folder(l.path)
	if err != nil {
		return nil, err
	}
	path := "auth/" + mount + "/login"
	if slices.Contains([]string{"userpass", "ldap", "okta", "radius"}, l.method) {
		user, _ := data["username"].(string)
		if user == "" {
			return nil, usagef("method %s needs username=NAME", l.method)
		}
		delete(data, "username")
		if path, err = path.child(user); err != nil {
			return nil, err
		}
		if _, given := data["password"]; !given {
			password, err := s.prompt(ctx, "Password (will be hidden): ")
			if err != nil {
				return nil, err
			}
			data["password"] = password.RevealString()
		}
	}
	client.api.ClearToken()
	sec, err := client.write(ctx, path, data)
	if err != nil {
		return nil, methodHint(remote(err, "authenticating"), path)
	}
	if sec == nil || sec.Auth == nil && sec.WrapInfo == nil {
		return nil, refuse(exitRemote, "Error authenticating: the server's answer has no token")
	}
	return sec, nil
}

// finishLogin stores the token and prints it.
func (s *session) finishLogin(sec *api.Secret, l loginFlags) error {
	if sec.Auth == nil || sec.Auth.ClientToken == "" {
		return s.out.show(sec)
	}
	if !l.noStore {
		helper, err := cliconfig.DefaultTokenHelper()
		if err != nil {
			return local(err, "finding the token helper")
		}
		if err := helper.Store(sec.Auth.ClientToken); err != nil {
			return hinted(local(err, "storing the token"), "-no-store logs in without storing it.")
		}
		if s.env.Getenv("VAULT_TOKEN") != "" {
			fmt.Fprint(s.env.Stderr, "WARNING! VAULT_TOKEN is set and wins over the token that was stored now; "+
				"unset it to\nuse the stored one.\n\n")
		}
	}
	if l.noPrint {
		return nil
	}
	if s.out.field == "" {
		stored := "It was not stored."
		if !l.noStore {
			stored = "The token shown here is\nstored; the commands that follow use it."
		}
		if err := s.out.say("Success! You are now authenticated. %s\n", stored); err != nil {
			return err
		}
	}
	return s.out.show(sec)
}
