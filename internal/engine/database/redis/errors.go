package redis

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// What we conclude from the server's answers.
var (
	errTooLate = errors.New("the create came after its deadline")
	errTaken   = errors.New("there is such a user already")
	errAbsent  = errors.New("there is no such user")
	errRefused = errors.New("the login was refused")
)

// A call is one call of the contract: what its errors say and must not say.
type call struct {
	op      string   // "redis.Create"
	doing   string   // "creating the user"
	field   string   // the field that holds the rules, if the user's are sent
	rules   []string // what they are
	user    string   // who is looked for
	secrets []secret.Value
}

func (c *conn) call(op, doing string, secrets ...secret.Value) call {
	return call{op: "redis." + op, doing: doing, secrets: append(secrets, c.secrets...)}
}

// words are the first words of errors that users meet, in ours, with what to do.
var words = map[string]string{
	"MASTERDOWN":  "it is a replica that has lost its primary; see what keeps them apart",
	"OOM":         "it is out of memory; raise its maxmemory",
	"CLUSTERDOWN": "its cluster is down; see its log",
	"BUSY":        "a script keeps it busy; try again",
	"LOADING":     "it is starting; try again",
	"MISCONF":     "it cannot write its snapshot; see its log",
	"READONLY":    "it is a replica, which takes no changes; give the primary's host",
	"NOAUTH":      "it asks for a password; give username and password",
	"NOPERM": "give it +acl +client +time, +config for persistence_mode=REWRITE, " +
		"and +cluster|nodes for a cluster",
	"WRONGPASS": "wrong username or password, or the user is off; check all three",
	"DENIED":    "it refuses connections from other machines; give it a password, or switch protected-mode off",
}

// explain makes a fault of an error of a call.
func (c *conn) explain(k call, err error) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: k.op, Kind: fault.Upstream}
	unchanged := k.classify(f, err)
	_, elsewhere := errors.AsType[*partly](err)
	if at, ok := errors.AsType[*atServer](err); ok {
		f.Msg = at.where + ": " + f.Msg
		if _, connecting := errors.AsType[*connectError](err); connecting {
			f.Msg += "; a server that is gone for good must be taken out: CLUSTER FORGET, or SENTINEL RESET"
		}
	}
	var r secret.Redactor
	r.Know(k.secrets...)
	f.Err = errors.New(r.Scrub(err.Error()))
	if said, answered := errors.AsType[*answer](err); answered {
		f = database.MarkCode(f, r.Scrub(strings.TrimPrefix(said.word(), "-")))
	}
	switch {
	case elsewhere: // the others answer, and each user is to be removed there
		return database.MarkRefused(f)
	case unchanged:
		return database.MarkUnchanged(f)
	}
	return f
}

// classify sets kind and message, and reports whether the server is surely unchanged.
func (k call) classify(f *fault.Error, err error) (unchanged bool) {
	early := database.IsNotSent(err)
	said, answered := errors.AsType[*answer](err)
	_, connecting := errors.AsType[*connectError](err)
	switch {
	case errors.Is(err, database.ErrClosed), errors.Is(err, context.Canceled):
		f.Kind, f.Msg = fault.Unavailable, k.doing+" was canceled"
	case fault.Is(err, fault.Denied):
		f.Kind, f.Msg = fault.Denied, fault.Message(err)
		return true
	case errors.Is(err, errTooLate):
		f.Kind, f.Msg = fault.Timeout, k.doing+" reached Redis after the attempt's deadline and was not done: "+
			"compare the server's clock with this machine's, or see what delays the connection"
	case errors.Is(err, errTaken):
		f.Kind, f.Msg = fault.Conflict, "Redis has a user of this name already; nothing was changed; check that the "+
			"username template has {{random}} in it"
	case errors.Is(err, errAbsent):
		f.Kind, f.Msg = fault.NotFound, "there is no user "+k.user+" in Redis; create it first, or correct the name"
		return true
	case topology(err) != "":
		f.Msg = topology(err)
		return true
	case answered && connecting:
		f.Msg = "cannot connect to Redis: " + k.refused(said)
		return true
	case answered:
		f.Msg = "Redis refused " + k.doing + ": " + k.refused(said)
	case connecting && errors.Is(err, context.DeadlineExceeded):
		f.Kind, f.Msg = fault.Timeout, "cannot connect to Redis: it does not answer in time; check host, port and "+
			"tls, and what lies between"
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

// topology says what the servers are to each other, where that is what is wrong.
func topology(err error) string {
	for is, text := range map[error]string{
		errSentinel: "this is a Sentinel, and no server that has users; give sentinel_master_name, or the server's " +
			"host and port",
		errNoMaster: "it knows no primary by sentinel_master_name; check the name in its configuration",
		errNoSlots: "it is in no cluster that has slots; give nodes of the cluster as host, and leave out those " +
			"that were removed",
		errSwitching: "a fail-over is under way; try again",
	} {
		if errors.Is(err, is) {
			return text
		}
	}
	return ""
}

func (k call) refused(said *answer) string {
	word := strings.TrimPrefix(said.word(), "-")
	text, known := words[word]
	switch {
	case word == "NOPERM":
		return k.notAllowed(said) + text
	case known:
		return text
	case strings.Contains(said.text, "without a config file"),
		strings.Contains(said.text, "not configured to use an ACL file"):
		return "persistence_mode asks for what it was not started for; see its aclfile and its configuration file"
	case strings.Contains(said.text, "without any password configured"),
		strings.Contains(said.text, "no password is set"):
		return "it has no password for the default user; leave password out, or give username as well"
	case strings.Contains(said.text, "cluster support disabled"):
		return "it is not a node of a cluster; leave cluster out"
	case strings.Contains(strings.ToLower(said.text), "unknown command 'sentinel"):
		return "it is not a Sentinel; give host and port of one, or leave sentinel_master_name out"
	case strings.Contains(said.text, "max number of clients"):
		return "it has too many clients; raise its maxclients, or lower max_open_connections"
	case strings.Contains(said.text, "unknown command"),
		strings.Contains(said.text, "wrong number of arguments for 'auth'"):
		return "it does not know access control lists; it is older than Redis 6, or a proxy; connect to a server " +
			"that does"
	case k.field != "" && said.at == 0:
		return k.rule(said)
	}
	return "the log has its words"
}

// notAllowed names the command that the administrator may not run.
func (k call) notAllowed(said *answer) string {
	_, rest, _ := strings.Cut(said.text, "'")
	command, _, ok := strings.Cut(rest, "'")
	if !ok || strings.ContainsFunc(command,
		func(r rune) bool { return r != '|' && r != '-' && (r < 'a' || r > 'z') }) {
		return "the administrator may not do that; "
	}
	return "the administrator may not run " + command + "; "
}

// rule names the rule that the server cannot read, if it is one of the role's.
func (k call) rule(said *answer) string {
	_, rest, _ := strings.Cut(said.text, "modifier '")
	rule, why, ok := strings.Cut(rest, "'")
	if !ok || !slices.Contains(k.rules, rule) {
		return "it cannot read " + k.field + "; the log has its words"
	}
	means := "it cannot read that rule"
	for says, m := range map[string]string{
		"Unknown command or category": "it knows no such command or category",
		"pattern":                     "it takes no such pattern after the rules before it",
		"Syntax error":                "it cannot read that rule",
	} {
		if strings.Contains(why, says) {
			means = m
		}
	}
	return "the rule " + rule + " of " + k.field + ": " + means + "; correct it"
}

var reach = database.Fields{Address: "host and port", Authority: "ca_cert", Name: "host",
	Pair: "tls_certificate and private_key", TLS: "the field tls"}

// unreachable says in our words why there is no connection.
func unreachable(err error) string {
	if errors.Is(err, errProtocol) {
		return "what listens there does not speak the Redis protocol; check host, port and tls"
	}
	fields := reach
	if _, several := errors.AsType[*atServer](err); several {
		fields.Address = "that it runs, and its address"
	}
	if why, ok := fields.Unreachable(err); ok {
		return why
	}
	return "the log has the reason; check host, port and tls"
}
