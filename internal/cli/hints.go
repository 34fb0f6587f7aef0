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

// hints returns the next steps for an error.
func hints(ctx context.Context, s *session, err error) []string {
	var list []string
	if h, ok := errors.AsType[hint](err); ok {
		list = append(list, h.next)
	}
	var usage usageError
	var answer *api.ResponseError
	var transport *url.Error
	switch {
	case errors.As(err, &usage):
		list = append(list, fmt.Sprintf("%q shows what the command takes.", s.line+" -h"))
	case errors.As(err, &answer):
		if next := answerHint(ctx, s, answer); next != "" {
			list = append(list, next)
		}
	case errors.As(err, &transport):
		if next := connectionHint(transport, s.opt.server(s.env.Getenv)); next != "" {
			list = append(list, next)
		}
	case errors.Is(err, context.DeadlineExceeded): // the API library's own limit
		list = append(list, timeoutHint(s.opt.server(s.env.Getenv)))
	}
	return list
}

// answerHint returns the hint for an answer of the server that is an error.
func answerHint(ctx context.Context, s *session, e *api.ResponseError) string {
	loggingIn := strings.HasSuffix(s.line, " login")
	switch text := strings.Join(e.Errors, "\n"); {
	case e.StatusCode == http.StatusBadRequest && strings.Contains(text, "HTTP request to an HTTPS server"):
		return "the server speaks https; set VAULT_ADDR (or -address) to the same address with https://."
	case e.StatusCode == http.StatusServiceUnavailable && s.client != nil:
		return sealHint(ctx, s.client, s.name)
	case s.client == nil || loggingIn:
		return ""
	case isInvalidToken(e) && s.env.Getenv("VAULT_TOKEN") != "":
		return fmt.Sprintf("VAULT_TOKEN has that token; set another one, or unset it and log in with %q.",
			s.name+" login")
	case isInvalidToken(e):
		return fmt.Sprintf("that is the stored token; log in with %q.", s.name+" login")
	case (e.StatusCode == http.StatusForbidden || strings.Contains(text, noTokenText)) && s.client.api.Token() == "" &&
		s.opt.agent(s.env.Getenv) == "":
		return fmt.Sprintf("no token was sent; log in with %q or set VAULT_TOKEN.", s.name+" login")
	}
	return ""
}

// noTokenText is in the errors of servers for a request without a token.
const noTokenText = "missing client token"

// isInvalidToken reports whether the server says that the session's token is invalid. An error
// that only says that permission is denied may be about a policy.
func isInvalidToken(e *api.ResponseError) bool {
	text := strings.Join(e.Errors, "\n")
	return e.StatusCode == http.StatusForbidden && strings.Contains(text, "permission denied") &&
		(strings.Contains(text, "the token is not known") || strings.Contains(text, "invalid token"))
}

// sealHint returns the hint for a server that is sealed or not set up.
func sealHint(ctx context.Context, c *client, program string) string {
	var status *api.SealStatusResponse
	err := c.auxiliary(func() (err error) {
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

// kvVersionHint adds a hint with the kv command to the error of a plain request, if the path
// belongs to a versioned engine and lacks its data/ or metadata/ segment.
func kvVersionHint(ctx context.Context, s *session, client *client, path target, command string, err error) error {
	if !isNotFound(err) {
		return err
	}
	found, lookupErr := client.mountOf(ctx, path)
	if lookupErr != nil || found == nil || !found.versioned {
		return err
	}
	switch kind, _, _ := strings.Cut(strings.TrimPrefix(string(path)+"/", found.path), "/"); kind {
	case "data", "metadata", "config", "delete", "undelete", "destroy", "subkeys":
		return err
	case "":
		if command != "list" { // the other commands need a secret below the mount
			return err
		}
	}
	return hinted(err, "at %s is version 2 of the key-value engine: use %q.", found.path,
		s.name+" kv "+command+" "+string(path))
}

// requireVersioned returns an error if the engine is not of version 2.
func (p kvPath) requireVersioned(what string) error {
	if p.versioned {
		return nil
	}
	err := fmt.Sprintf("Error: %s needs version 2 of the key-value engine; at %s/ ", what, p.mount)
	switch p.kind {
	case "kv", "generic":
		return hinted(refuse(exitLocal, "%sversion 1 is mounted", err), "the command %q upgrades it.",
			fmt.Sprintf("kv enable-versioning %s/", p.mount))
	case "":
		return refuse(exitLocal, "%sthe server does not say what is mounted", err)
	}
	return refuse(exitLocal, "%san engine of type %s is mounted", err, p.kind)
}

// rotationHint adds a hint to the error for a key that does not exist. It says whether the engine
// or the key is missing. It returns nil for nil.
func rotationHint(ctx context.Context, s *session, err error, mount, name string) error {
	at, wrong := folder(mount)
	if !isNotFound(err) || wrong != nil {
		return err
	}
	if strings.Contains(name, "/") {
		return hinted(err, "%q lists everything that rotates, with its path.", s.name+" rotate status")
	}
	found, lookupErr := s.client.mountOf(ctx, at)
	var answer *api.ResponseError
	switch {
	case errors.As(lookupErr, &answer) && answer.StatusCode == http.StatusForbidden && !isInvalidToken(answer):
		return hinted(err, "no rotation engine is mounted at %s/, or no policy of the token allows anything below "+
			"it; -mount names another path.", at)
	case lookupErr != nil || found == nil:
		return err
	case found.kind != "rotation":
		return hinted(err, "the engine at %s is of type %s, not a rotation engine; name another path with -mount.",
			found.path, found.kind)
	case name == "":
		return hinted(err, "no key is rotated there yet; %q configures one.",
			s.name+" write "+string(at)+"/keys/NAME recipe=… path=…")
	}
	list := s.name + " rotate status"
	if at != "rotation" {
		list += " -mount=" + string(at)
	}
	return hinted(err, "%q lists the keys.", list)
}

// methodHint adds a hint to the error for a login endpoint that does not exist. The server then
// says that a token is missing, which does not help a user who logs in.
func methodHint(err error, path target) error {
	var answer *api.ResponseError
	if !errors.As(err, &answer) {
		return err
	}
	text := strings.Join(answer.Errors, " ")
	if strings.Contains(text, noTokenText) || answer.StatusCode == http.StatusNotFound &&
		strings.Contains(text, "no handler for route") {
		return hinted(err, "no login method is enabled at %s; name the right path with -path, which an "+
			"administrator finds with \"auth list\".", path)
	}
	return err
}
