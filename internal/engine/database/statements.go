package database

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/route"
)

// MaxStatements is how many bytes the statements of one field may have together: each credential
// runs them, and each lease keeps those that revoke it.
const MaxStatements = 64 << 10

// statements are SQL as it is written: a list, or one text. Each text may also be a list in JSON, as command lines give
// it, and either of the two in base64. Unlike other lists a text is not taken apart at its commas. A nil pointer was not given.
type statements struct {
	list      []string
	written   []string // in another form than list; nil: as list
	oversized bool     // far above MaxStatements, and not read
}

// UnmarshalJSON takes a list of strings or a string.
func (s *statements) UnmarshalJSON(text []byte) error {
	*s = statements{}
	if s.oversized = len(text) > 8*MaxStatements; s.oversized { // six bytes may write one, as \u0020 does
		return nil
	}
	text = bytes.TrimSpace(text)
	one := len(text) > 0 && text[0] == '"'
	if one {
		text = slices.Concat([]byte{'['}, text, []byte{']'})
	}
	var all []string
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if one {
		if listed, ok := parseList(all[0]); ok {
			all = listed
		}
	}
	all = slices.DeleteFunc(all, blank)
	for _, text := range all {
		s.list = append(s.list, expand(text)...)
	}
	if !slices.Equal(s.list, all) {
		s.written = all
	}
	return nil
}

// CheckSize refuses statements that are too long together. A kind of database calls it before it reads any.
func CheckSize(field string, statements []string) error {
	total := 0
	for _, text := range statements {
		total += len(text)
	}
	if total > MaxStatements {
		return tooLong(field)
	}
	return nil
}

func tooLong(field string) error {
	return invalid("field %q: its statements have more than %d KiB together; let them call a procedure of the database instead", field, MaxStatements>>10)
}

// expand reads one text of a list: the statement itself, a list in JSON, or either in base64.
func expand(text string) []string {
	if plain, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil && isText(plain) {
		text = string(plain)
	}
	if listed, ok := parseList(text); ok {
		return slices.DeleteFunc(listed, blank)
	}
	return []string{text}
}

func blank(text string) bool { return strings.TrimSpace(text) == "" }

// parseList reads a list of strings in JSON.
func parseList(text string) (listed []string, ok bool) {
	return listed, strings.HasPrefix(strings.TrimSpace(text), "[") && json.Unmarshal([]byte(text), &listed) == nil
}

// isText tells what base64 was made of text from a word that base64 could be made of by chance.
func isText(plain []byte) bool {
	return len(plain) > 0 && utf8.Valid(plain) && !bytes.ContainsFunc(plain, func(c rune) bool { return unicode.IsControl(c) && !unicode.IsSpace(c) })
}

// A statementForm has, by field, statements as they were written where that was in another form than a list of statements: clients
// compare what they read with what they have written.
type statementForm map[string][]string

// set replaces a field's statements by those that were given, if they were.
func (f *statementForm) set(field string, list *[]string, given *statements) error {
	if given == nil {
		return nil
	}
	if given.oversized {
		return tooLong(field)
	}
	if err := CheckSize(field, given.list); err != nil {
		return err
	}
	*list = given.list
	next := statementForm{}
	maps.Copy(next, *f)
	delete(next, field)
	if given.written != nil {
		next[field] = given.written
	}
	if *f = next; len(next) == 0 {
		*f = nil
	}
	return nil
}

// out is a field's statements as they were written; list is what they were read as.
func (f statementForm) out(field string, list []string) []string {
	if as := f[field]; as != nil {
		return as
	}
	if list == nil {
		return []string{}
	}
	return list
}

// Fields of statements that rotations use.
const (
	staticStatements = "rotation_statements"
	rootStatements   = "root_rotation_statements"
)

// placeholders has those of each field.
var placeholders = map[string][]string{
	"creation_statements":   {"name", "username", "password", "public_key", "subject", "expiration"},
	"rollback_statements":   {"name", "username", "password", "public_key", "subject", "expiration"},
	"renew_statements":      {"name", "username", "expiration"},
	"revocation_statements": {"name", "username"},
	staticStatements:        {"name", "username", "password", "public_key", "subject"},
	rootStatements:          {"name", "username", "password"},
}

// inspect finds what is wrong with the statements of a field, and what is in them.
func (p *Provider) inspect(field string, list []string) (Found, error) {
	found, err := Found{}, error(nil)
	if len(list) > 0 {
		found, err = p.CheckStatements(field, list)
	}
	found.field = field
	return found, err
}

// checkPlaceholders refuses placeholders that the field does not have: they would reach the database as they are, and make a user
// whose name they are, which nobody revokes.
func (f Found) checkPlaceholders() error {
	known := placeholders[f.field]
	for _, name := range f.Placeholders {
		if slices.Contains(known, name) {
			continue
		}
		if trimmed := strings.Trim(name, " \t.{}"); slices.Contains(known, trimmed) {
			return invalid("field %q: {{%s}} is no placeholder; write {{%s}}", f.field, name, trimmed)
		}
		return invalid("field %q: {{%s}} is no placeholder there; use {{%s}}, and write braces that are data apart, as { {", f.field, name, strings.Join(known, "}}, {{"))
	}
	return nil
}

// longestPlaceholder is how many bytes after its braces a placeholder is looked for in.
const longestPlaceholder = 64

// Placeholder reads what rest begins with. found is what stands between double braces, also where that is no
// placeholder but was meant for one: {{ name }}, {{user}}, {{.Name}}, {{name}. What is not found is data, such as the array
// '{{1,2},{3,4}}'. It looks at each byte once at most before the next brace.
func Placeholder(rest string) (name string, found bool) {
	inner, ok := strings.CutPrefix(rest, "{{")
	if !ok {
		return "", false
	}
	inner = inner[:min(len(inner), longestPlaceholder)]
	end := strings.IndexAny(inner, "{},\n")
	if end < 0 {
		end = len(inner)
	}
	name = inner[:end]
	word := strings.TrimLeft(name, " \t.")
	if word == "" || word[0] != '_' && !(word[0]|0x20 >= 'a' && word[0]|0x20 <= 'z') {
		return "", false
	}
	switch after := inner[end:]; {
	case strings.HasPrefix(after, "}}"):
		return name, true
	case strings.HasPrefix(after, ","), strings.HasPrefix(after, "},"), strings.HasPrefix(after, "{"):
		return "", false
	case strings.HasPrefix(after, "}"):
		return name + "}", true
	}
	return name, true
}

// checkLogin finds what keeps users of a kind of database from logging in by their credentials, or from being refused where they
// should be. made is what the statements that make them have or, for static ones, those that tell the database of a new
// password or key.
func (c *credentialConfig) checkLogin(p *Provider, made Found, others ...Found) error {
	all := Found{Placeholders: slices.Clone(made.Placeholders)}
	for _, o := range others {
		all.Placeholders = append(all.Placeholders, o.Placeholders...)
	}
	kind, field := c.kind(), made.field
	switch {
	case kind != typePassword && !slices.Contains(p.Logins, kind):
		return invalid("field \"credential_type\": users of %s cannot log in by %s; take credential_type=password", p.Name, kind)
	case kind == typePassword && all.Has("public_key", "subject"):
		return invalid("field %q: {{public_key}} and {{subject}} cannot be used with credential_type password; use {{password}}, or set credential_type to rsa_private_key or client_certificate", field)
	case kind != typePassword && all.Has("password"):
		return invalid("field %q: {{password}} cannot be used with credential_type %s, whose users have no password; remove it from all statements, or set credential_type=password", field, kind)
	case kind == typeRSAKey && all.Has("subject"):
		return invalid("field %q: {{subject}} is the subject of a certificate and cannot be used with credential_type %s; use {{public_key}}", field, typeRSAKey)
	case kind == typeRSAKey && !made.Has("public_key"):
		return invalid("field %q: with credential_type %s the statements must tell the database the user's key by {{public_key}}, or nobody could log in with it; put it in, or set credential_type=password", field, typeRSAKey)
	case kind == typeCertificate && p.BindsSubject && !made.Has("subject"):
		return invalid("field %q: a user without password must be bound to its certificate, or %s accepts any client that knows the name; write REQUIRE SUBJECT '{{subject}}' into the statement that makes the user", field, p.Name)
	}
	return nil
}

// checkCreation refuses statements by which the database would not learn whom to let in, and by what. Rules have neither name nor
// password in them: their kind of database adds both.
func (c *credentialConfig) checkCreation(p *Provider, made Found) error {
	switch field := made.field; {
	case p.Rules:
	case !made.Has("name", "username"):
		return invalid("field %q: {{name}} is not in it, so that no user of that name would be made; put it where the user's name belongs", field)
	case !c.setsPassword(p, made):
		return invalid("field %q: {{password}} is not in it, so that nobody could log in with the password that is given out; put it where the user's password belongs, or set credential_type", field)
	}
	return nil
}

// told reports whether statements tell the database the password that is given out.
func (c *credentialConfig) setsPassword(p *Provider, found Found) bool {
	return p.Rules || c.kind() != typePassword || found.Has("password")
}

// checkRotation refuses to rotate by statements that change no password.
func (c *credentialConfig) checkRotation(p *Provider, field string, list []string) error {
	found, err := p.inspect(field, list)
	if err == nil && len(list) > 0 && !c.setsPassword(p, found) {
		err = invalid("field %q: {{password}} is not in it, so that the password would stay as it is; put it where the new password belongs", field)
	}
	return err
}

// warnRotation warns of statements that change no password. They are stored, as the reference does, and a rotation by them is
// refused.
func (c *credentialConfig) warnRotation(r *route.Request, p *Provider, found Found, statements []string) {
	if len(statements) > 0 && !c.setsPassword(p, found) {
		r.Warn("%s: {{password}} is not in it, so that no password can be rotated by it; put it where the new password belongs", found.field)
	}
}
