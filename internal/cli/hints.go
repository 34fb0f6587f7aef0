package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"
)

// hints are the next steps for an error.
func hints(ctx context.Context, s *session, err error) []string {
	var list []string
	if h, ok := errors.AsType[hint](err); ok {
		list = append(list, h.next)
	}
	var usage usageError
	var answer *api.ResponseError
	var unsent *url.Error
	switch {
	case errors.As(err, &usage):
		list = append(list, fmt.Sprintf("%q shows what the command takes.", s.line+" -h"))
	case errors.As(err, &answer):
		if next := answerHint(ctx, s, answer); next != "" {
			list = append(list, next)
		}
	case errors.As(err, &unsent):
		if next := connectionHint(unsent, s.opt.server(s.env.Getenv)); next != "" {
			list = append(list, next)
		}
	case errors.Is(err, context.DeadlineExceeded): // the API library's own limit
		list = append(list, timeoutHint(s.opt.server(s.env.Getenv)))
	}
	return list
}

// answerHint is for an answer that is an error.
func answerHint(ctx context.Context, s *session, e *api.ResponseError) string {
	loggingIn := strings.HasSuffix(s.line, " login")
	switch text := strings.Join(e.Errors, "\n"); {
	case e.StatusCode == http.StatusBadRequest && strings.Contains(text, "HTTP request to an HTTPS server"):
		return "the server speaks https; set VAULT_ADDR (or -address) to the same address with https://."
	case e.StatusCode == http.StatusServiceUnavailable && s.client != nil:
		return sealHint(ctx, s.client, s.name)
	case s.client == nil || loggingIn:
		return ""
	case isDeadToken(e) && s.env.Getenv("VAULT_TOKEN") != "":
		return fmt.Sprintf("VAULT_TOKEN has that token; set another one, or unset it and log in with %q.", s.name+" login")
	case isDeadToken(e):
		return fmt.Sprintf("that is the stored token; log in with %q.", s.name+" login")
	case (e.StatusCode == http.StatusForbidden || strings.Contains(text, noTokenText)) && s.client.api.Token() == "" && s.opt.agent(s.env.Getenv) == "":
		return fmt.Sprintf("no token was sent; log in with %q or set VAULT_TOKEN.", s.name+" login")
	}
	return ""
}

// noTokenText is how servers refuse a request that has no token.
const noTokenText = "missing client token"

// isDeadToken reports whether a server says that the session's token is not good.
// One that says nothing but that permission is denied may mean a policy.
func isDeadToken(e *api.ResponseError) bool {
	text := strings.Join(e.Errors, "\n")
	return e.StatusCode == http.StatusForbidden && strings.Contains(text, "permission denied") &&
		(strings.Contains(text, "the token is not known") || strings.Contains(text, "invalid token"))
}

// sealHint is what to do about a server that does not serve, by what it says of
// its seal.
func sealHint(ctx context.Context, c *client, program string) string {
	var status *api.SealStatusResponse
	err := c.aside(func() (err error) {
		status, err = c.api.Sys().SealStatusWithContext(ctx)
		return err
	})
	switch {
	case err != nil || !status.Sealed:
		return ""
	case !status.Initialized:
		return fmt.Sprintf("the server is new; set it up with %q.", program+" operator init")
	case status.RecoverySeal || status.Type != "shamir":
		return "the server unseals itself with the key of its seal; its log says why it has not."
	}
	return fmt.Sprintf("unseal the server with %q.", program+" operator unseal")
}

// versionHint adds to the error of a plain request which kv command it stands
// for, where the path is one of a versioned engine without its data/ or metadata/.
func versionHint(ctx context.Context, s *session, client *client, path target, command string, err error) error {
	if !notThere(err) {
		return err
	}
	found, asking := client.mountOf(ctx, path)
	if asking != nil || found == nil || !found.versioned {
		return err
	}
	switch kind, _, _ := strings.Cut(strings.TrimPrefix(string(path)+"/", found.path), "/"); kind {
	case "data", "metadata", "config", "delete", "undelete", "destroy", "subkeys":
		return err
	case "":
		if command != "list" { // the other commands take a secret
			return err
		}
	}
	return hinted(err, "at %s is version 2 of the key-value engine: use %q.", found.path, s.name+" kv "+command+" "+string(path))
}

// versionedOnly refuses what version 1 cannot do.
func (p kvPath) versionedOnly(what string) error {
	if p.versioned {
		return nil
	}
	err := "Error: " + what + " needs version 2 of the key-value engine; at " + string(p.mount) + "/ "
	switch p.kind {
	case "kv", "generic":
		return hinted(refusal{exitLocal, err + "version 1 is mounted"}, "the command %q upgrades it.", "kv enable-versioning "+string(p.mount)+"/")
	case "":
		return refusal{exitLocal, err + "the server does not say what is mounted"}
	}
	return refusal{exitLocal, err + "an engine of type " + p.kind + " is mounted"}
}

// rotationHint helps where there is nothing at the path of a key: it tells apart
// an engine that is not there from a key that is not there.
func rotationHint(ctx context.Context, s *session, err error, mount, name string) error {
	at, wrong := folder(mount)
	if !notThere(err) || wrong != nil {
		return err
	}
	found, asking := s.client.mountOf(ctx, at)
	var answer *api.ResponseError
	switch {
	case errors.As(asking, &answer) && answer.StatusCode == http.StatusForbidden && !isDeadToken(answer):
		return hinted(err, "no rotation engine is mounted at %s/, or no policy of the token allows anything below it; -mount names another path.", at)
	case asking != nil || found == nil:
		return err
	case found.kind != "rotation":
		return hinted(err, "the engine at %s is of type %s, not a rotation engine; name another path with -mount.", found.path, found.kind)
	case name == "":
		return hinted(err, "no key is rotated there yet; %q configures one.", s.name+" write "+string(at)+"/keys/NAME recipe=… path=…")
	}
	list := s.name + " rotate status"
	if at != "rotation" {
		list += " -mount=" + string(at)
	}
	return hinted(err, "%q lists the keys.", list)
}

// methodHint is for a login endpoint that does not exist. The server then asks for
// a token, which a user who logs in does not have.
func methodHint(err error, path target) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	text := strings.Join(answer.Errors, " ")
	if strings.Contains(text, noTokenText) || answer.StatusCode == http.StatusNotFound && strings.Contains(text, "no handler for route") {
		return hinted(err, "no login method is enabled at %s; name the right path with -path, which an administrator finds with \"auth list\".", path)
	}
	return err
}
