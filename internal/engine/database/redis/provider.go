// Package redis lends users of Redis and Valkey: entries of the server's access control list.
//
// A create is one command, and the server does it as a whole or not at all. Before it, the session
// takes the attempt's name (CLIENT SETNAME) and then reads the server's clock, and goes on only if
// that is before the attempt's deadline. The order of the two is what makes SettleAttempt sound:
// whoever finds the deadline passed and no session of that name knows that a create still on its
// way will refuse itself; who finds one ends it, and what the network still holds for it meets a
// closed connection.
//
// Passwords are sent as their SHA-256, which is also what the server keeps: no log of the server
// and no listener on its commands ever sees one.
//
// The access control list is each server's own: neither replicas nor the other nodes of a cluster
// hear of a user. So a call of a cluster, or of a primary and its replicas that Sentinels watch,
// goes to each server. It has succeeded when it did at all of them; else its error tells whether
// some have changed. Every call may be repeated, and a create is undone by the calls that undo one
// of unknown outcome.
//
// Locking: a Conn's own state is a pool and the running calls, which guard themselves.
package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/secret"
)

// Provider is Redis and Valkey, whose commands are the same.
var Provider = database.Provider{
	Name:    "redis",
	Plugins: []string{"redis-database-plugin", "valkey-database-plugin"},
	NameMax: 63,
	Settings: []database.Setting{
		{Name: "host", Doc: "the server's name or address. Of a cluster, nodes to begin at, and for Sentinel the " +
			"Sentinels: separated by commas, each with a port if it has another one."},
		{Name: "port", Form: database.Number, Default: "6379, of Sentinels 26379", Doc: "the server's port."},
		{Name: "cluster", Form: database.Flag, Default: "false",
			Doc: "whether host is of a cluster, at all of whose nodes users are issued."},
		{Name: "sentinel_master_name", Default: "none",
			Doc: "the name by which the Sentinels at host know the primary; users are issued there and at its " +
				"replicas."},
		{Name: "sentinel_username", Default: "none", Doc: "the user at the Sentinels."},
		{Name: "sentinel_password", Form: database.Secret, Default: "none", Doc: "the password at the Sentinels."},
		{Name: "tls", Form: database.Flag, Default: "false", Doc: "whether connections are encrypted."},
		{Name: "insecure_tls", Form: database.Flag, Default: "false",
			Doc: "whether the server's certificate is taken unseen."},
		{Name: "ca_cert", Default: "tls_ca", Doc: "the authority that signed the server's certificate, in PEM."},
		{Name: "persistence_mode", Default: "none",
			Doc: "how users outlive the server's restart: ACLFILE or REWRITE."},
	},
	DefaultCreation: []string{"~*", "+@read"},
	Check: func(c database.Config) error {
		_, err := prepare(c)
		return err
	},
	Rules:           true,
	CheckStatements: checkStatements,
	Display:         func(url secret.Value) string { return url.RevealString() },
	Destination:     destination,
	Connect: func(_ context.Context, c database.Config) (database.Conn, error) {
		p, err := prepare(c)
		if err != nil {
			return nil, err
		}
		return open(p), nil
	},
}

// persisting has the commands that keep the access control list over a restart, by
// persistence_mode.
var persisting = map[string][]string{"": nil, "REWRITE": {"CONFIG", "REWRITE"}, "ACLFILE": {"ACL", "SAVE"}}

// defaultOpen suffices: the server does one thing at a time anyway.
const defaultOpen = 4

// prepare checks a configuration without any I/O and reports all problems.
func prepare(c database.Config) (plan, error) {
	p := plan{config: c, dial: c.Dial, username: c.Username,
		secrets: []secret.Value{c.Password, c.PrivateKey, c.Hidden["sentinel_password"]}, maxOpen: defaultOpen}
	if p.dial == nil {
		p.dial = outbound.Anywhere.DialContext
	}
	var problems []error
	var err error
	p.seeds, err = seeds(c)
	problems = append(problems, err, checkTopology(c))
	p.cluster = c.Extra["cluster"] == "true"
	p.watchers = watchers{c.Extra["sentinel_master_name"], c.Extra["sentinel_username"], c.Hidden["sentinel_password"]}
	p.tls, err = checkTLS(c)
	problems = append(problems, err)
	mode := strings.ToUpper(c.Extra["persistence_mode"])
	p.persist = persisting[mode]
	if _, known := persisting[mode]; !known {
		problems = append(problems,
			errors.New("persistence_mode must be REWRITE (CONFIG REWRITE), ACLFILE (ACL SAVE), or be left out"))
	}
	if c.Password.Empty() && c.Username != "" {
		problems = append(problems, errors.New("password is empty: give that of the username"))
	}
	if a := c.PasswordAuthentication; a != "" && a != "password" {
		problems = append(problems, errors.New("password_authentication has no meaning for Redis: leave it out; "+
			"passwords are sent as their SHA-256 anyway"))
	}
	if c.ConnLifetime < 0 {
		problems = append(problems, errors.New("max_connection_lifetime must not be negative"))
	}
	if err := errors.Join(problems...); err != nil {
		return plan{}, fault.New("redis.Check", fault.Invalid, "%v", err)
	}
	switch {
	case c.MaxOpen > 0:
		p.maxOpen = c.MaxOpen
	case c.MaxOpen < 0:
		p.maxOpen = 0
	}
	switch p.maxIdle = max(p.maxOpen, defaultOpen); {
	case c.MaxIdle > 0:
		p.maxIdle = c.MaxIdle
	case c.MaxIdle < 0:
		p.maxIdle = 0
	}
	return p, nil
}

// checkTLS reads the TLS material. What is given asks for TLS.
func checkTLS(c database.Config) (*tls.Config, error) {
	ca, insecure := database.PEM(c.Extra["ca_cert"]), c.Extra["insecure_tls"] == "true"
	if ca == "" {
		ca = c.TLSCA
	}
	if c.Extra["tls"] != "true" {
		if ca != "" || insecure || c.TLSCertificate != "" || !c.PrivateKey.Empty() {
			return nil, errors.New("a field for TLS is given, but tls is not true: set it, or leave the others out")
		}
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	var problems []error
	if ca != "" {
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			problems = append(problems, errors.New("ca_cert has no certificate in PEM form in it"))
		}
	}
	if c.TLSCertificate != "" || !c.PrivateKey.Empty() {
		pair, err := database.KeyPair([]byte(c.TLSCertificate), c.PrivateKey.Reveal())
		if err != nil {
			problems = append(problems,
				errors.New("tls_certificate and private_key are not a matching pair in PEM form"))
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, errors.Join(problems...)
}

func checkStatements(field string, statements []string) (database.Found, error) {
	if field != "creation_statements" {
		return database.Found{},
			fault.New("redis.CheckStatements", fault.Invalid,
				"%s: Redis has none; leave them out, because Redis has only one way to change and remove users",
				field)
	}
	if err := database.CheckSize(field, statements); err != nil {
		return database.Found{}, err
	}
	_, err := rules(statements)
	return database.Found{}, err
}

// spoiling are the rules that would undo what a user of ours is: enabled, with the password that
// it was made with and no other.
var spoiling = []string{"on", "off", "nopass", "reset", "resetpass"}

// rules reads creation_statements: rules of the access control list, one each, several separated
// by spaces, or a list in JSON.
func rules(statements []string) (all []string, err error) {
	for _, s := range statements {
		if s = strings.TrimSpace(s); strings.HasPrefix(s, "[") {
			var listed []string
			if json.Unmarshal([]byte(s), &listed) != nil {
				return nil, fault.New("redis.rules", fault.Invalid,
					`creation_statements must be a list of rules such as ["~app:*", "+@read"]`)
			}
			all = append(all, listed...)
			continue
		}
		all = append(all, fields(s)...)
	}
	for _, rule := range all {
		if err := checkRule(rule); err != nil {
			return nil, err
		}
	}
	if len(all) == 0 {
		return nil, fault.New("redis.rules", fault.Invalid,
			"creation_statements has no rule in it; write some, or leave the field out")
	}
	return all, nil
}

// checkRule refuses what is no rule of the role's to say, and what Redis would write into its file
// of users and not read from there again: such a server does not start.
func checkRule(rule string) error {
	shown := rule[:min(len(rule), 40)]
	word := strings.ToLower(rule)
	if strings.TrimSpace(rule) == "" || slices.Contains(spoiling, word) || strings.ContainsAny(word[:1], "<>#!") {
		return fault.New("redis.rules", fault.Invalid, "creation_statements has the rule %q: the role does not "+
			"decide whether a user is enabled, nor its password; remove the rule", shown)
	}
	if strings.Contains(rule, "{{") {
		return fault.New("redis.rules", fault.Invalid, "creation_statements has the rule %q: rules have no "+
			"placeholders, because Keyturn sets the user's name and password itself; remove the braces", shown)
	}
	if rule[0] == '(' {
		return checkSelector(rule, shown)
	}
	if !balanced(rule) {
		return fault.New("redis.rules", fault.Invalid, "creation_statements has the rule %q, whose parentheses are "+
			"not balanced; balance them, or write ? for each in a pattern", shown)
	}
	if strings.ContainsFunc(rule, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return fault.New("redis.rules", fault.Invalid, "creation_statements has the rule %q: there is white space "+
			"in it; write each rule as one element, and ? for a space in a pattern", shown)
	}
	return nil
}

// checkSelector judges a rule in parentheses, which holds rules of its own.
func checkSelector(rule, shown string) error {
	inner, closed := strings.CutSuffix(rule[1:], ")")
	switch {
	case !closed:
		return fault.New("redis.rules", fault.Invalid,
			"creation_statements has the rule %q, whose parenthesis is never closed; close it within the same rule",
			shown)
	case strings.ContainsAny(inner, "()"):
		return fault.New("redis.rules", fault.Invalid, "creation_statements has the rule %q: within a selector, "+
			"such as (+get ~app:*), there are no parentheses; remove them, or write ? for each in a pattern", shown)
	case strings.ContainsFunc(inner,
		func(c rune) bool { return c < ' ' && !strings.ContainsRune("\t\r\n", c) || c == 0x7f }):
		return fault.New("redis.rules", fault.Invalid,
			"creation_statements has the rule %q: there is a control character in it; remove it", shown)
	}
	return nil
}

// balanced reports whether each parenthesis in s has its other one.
func balanced(s string) bool {
	deep := 0
	for _, c := range []byte(s) {
		switch c {
		case '(':
			deep++
		case ')':
			deep--
		}
		if deep < 0 {
			return false
		}
	}
	return deep == 0
}

// fields splits at spaces, but not in the parentheses of a selector.
func fields(s string) (all []string) {
	deep, from := 0, 0
	take := func(to int) {
		if word := strings.TrimSpace(s[from:to]); word != "" {
			all = append(all, word)
		}
		from = to
	}
	for i := range len(s) {
		switch s[i] {
		case '(':
			deep++
		case ')':
			deep--
		case ' ', '\t', '\n', '\r':
			if deep <= 0 {
				take(i)
			}
		}
	}
	take(len(s))
	return all
}
