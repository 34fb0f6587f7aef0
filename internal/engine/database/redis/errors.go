package redis

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"syscall"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// What we conclude from the server's answers.
var (
	errTooLate = errors.New("the create came after its deadline")
	errTaken   = errors.New("there is such a user already")
	errAbsent  = errors.New("there is no such user")
)

// A call is one call of the contract: what its errors say and must not say.
type call struct {
	op      string // "redis.Create"
	doing   string // "creating the user"
	field   string // the field that holds the rules, if the user's are sent
	secrets []secret.Value
}

func (c *conn) call(op, doing string, secrets ...secret.Value) call {
	return call{op: "redis." + op, doing: doing, secrets: append(secrets, c.known...)}
}

// words are the first words of errors that users meet, in ours, with what to do.
var words = map[string]string{
	"BUSY":      "a script keeps it busy; try again",
	"LOADING":   "it is starting; try again",
	"MISCONF":   "it cannot write its snapshot; see its log",
	"READONLY":  "it is a replica, which takes no changes; give the primary's host",
	"NOAUTH":    "it asks for a password; give username and password",
	"NOPERM":    "the administrator may not do that; give it +acl +client +time, and +config for persistence_mode=REWRITE",
	"WRONGPASS": "wrong username or password; check both",
	"DENIED":    "it refuses connections from other machines; give it a password, or switch protected-mode off",
}

// explain makes a fault of an error of a call.
func (c *conn) explain(k call, err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: k.op, Kind: fault.Upstream}
	unchanged := k.classify(f, err)
	if _, before := errors.AsType[*uncertain](err); before {
		unchanged = false
	}
	var r secret.Redactor
	r.Know(k.secrets...)
	f.Err = errors.New(r.Scrub(err.Error()))
	if unchanged {
		return database.MarkUnchanged(f)
	}
	return f
}

// classify sets kind and message, and reports whether the server is surely unchanged.
func (k call) classify(f *fault.Error, err error) (unchanged bool) {
	_, early := errors.AsType[*notSent](err)
	said, answered := errors.AsType[*answer](err)
	_, connecting := errors.AsType[*connectError](err)
	switch {
	case errors.Is(err, errClosed), errors.Is(err, context.Canceled):
		f.Kind, f.Msg = fault.Unavailable, k.doing+" was canceled"
	case fault.Is(err, fault.Denied):
		f.Kind, f.Msg = fault.Denied, fault.Message(err)
		return true
	case errors.Is(err, errTooLate):
		f.Kind, f.Msg = fault.Timeout, k.doing+" reached Redis after the attempt's deadline and was not done: compare the server's clock with this machine's, or see what delays the connection"
	case errors.Is(err, errTaken):
		f.Kind, f.Msg = fault.Conflict, "Redis has a user of this name already; nothing was changed; check that the username template has {{random}} in it"
	case errors.Is(err, errAbsent):
		f.Kind, f.Msg = fault.NotFound, "there is no such user in Redis any more"
		return true
	case answered && connecting:
		f.Msg = "cannot connect to Redis: " + k.refused(said)
		return true
	case answered:
		f.Msg = "Redis refused " + k.doing + ": " + k.refused(said)
	case connecting && errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, "cannot connect to Redis: it does not answer in time; check host and port, and what lies between"
		return true
	case connecting:
		f.Msg = "cannot connect to Redis: " + unreachable(err)
		return true
	case errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, k.doing+" took too long: see what keeps the server busy in its SLOWLOG"
	case fault.Is(err, fault.TooLarge):
		f.Msg = k.doing + ": " + fault.Message(err)
	default:
		f.Msg = "the connection to Redis was lost while " + k.doing
	}
	return early
}

func (k call) refused(said *answer) string {
	text, known := words[strings.TrimPrefix(said.word(), "-")]
	switch {
	case known:
		return text
	case strings.Contains(said.text, "without a config file"), strings.Contains(said.text, "not configured to use an ACL file"):
		return "persistence_mode asks for what it was not started for; see its aclfile and its configuration file"
	case k.field != "" && said.at == 0:
		return "it cannot read " + k.field + "; the log has its words"
	}
	return "the log has its words"
}

// unreachable says in our words why there is no connection.
func unreachable(err error) string {
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, hostname := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case fault.Is(err, fault.TooLarge):
		return fault.Message(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there; check host and port"
	case authority:
		return "its certificate is not signed by a known authority; give ca_cert"
	case hostname:
		return "its certificate is for another name; check host"
	case invalid:
		return "its certificate is not valid; renew it"
	case errors.Is(err, errProtocol):
		return "what listens there does not speak the Redis protocol; check host, port and tls"
	case strings.Contains(err.Error(), "no such host"):
		return "the host's name cannot be resolved; check host"
	}
	return "the log has the reason; check host, port and tls"
}
