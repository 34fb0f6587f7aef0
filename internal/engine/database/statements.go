package database

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/keyturn/keyturn/internal/route"
)

// MaxStatements is how many bytes the statements of one field may have together. Each credential
// runs them, and each lease stores those that revoke it.
const MaxStatements = 64 << 10

// statements are the SQL of a field: a list, or one text. Each text may also be a list in JSON,
// as command lines send it, and both may be in base64. Unlike in other lists, commas do not
// separate texts.
type statements struct {
	list      []string
	written   []string // as sent, if in another form than list
	oversized bool     // far above MaxStatements, and not parsed
}

// UnmarshalJSON takes a list of strings or a string.
func (s *statements) UnmarshalJSON(text []byte) error {
	*s = statements{}
	if s.oversized = len(text) > 8*MaxStatements; s.oversized { // JSON may write one byte as six, such as \u0020
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

// CheckSize refuses statements that are too long together. A kind of database calls it before it
// parses any.
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
	return invalid(
		"field %q: its statements have more than %d KiB together; let them call a procedure of the database instead",
		field, MaxStatements>>10)
}

// expand parses one text of a list: a statement, a list in JSON, or one of these in base64.
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

// parseList parses a list of strings in JSON.
func parseList(text string) (listed []string, ok bool) {
	return listed, strings.HasPrefix(strings.TrimSpace(text), "[") && json.Unmarshal([]byte(text), &listed) == nil
}

// isText reports whether decoded base64 is text. A word that is valid base64 by chance decodes to
// something else.
func isText(plain []byte) bool {
	control := func(c rune) bool { return unicode.IsControl(c) && !unicode.IsSpace(c) }
	return len(plain) > 0 && utf8.Valid(plain) && !bytes.ContainsFunc(plain, control)
}

// A statementForm has, by field, statements as they were sent, if in another form than a list.
// Clients compare what they read with what they have written.
type statementForm map[string][]string

// set replaces a field's statements if some were sent.
func (f *statementForm) set(field string, list *[]string, sent *statements) error {
	if sent == nil {
		return nil
	}
	if sent.oversized {
		return tooLong(field)
	}
	if err := CheckSize(field, sent.list); err != nil {
		return err
	}
	*list = sent.list
	next := statementForm{}
	maps.Copy(next, *f)
	delete(next, field)
	if sent.written != nil {
		next[field] = sent.written
	}
	if *f = next; len(next) == 0 {
		*f = nil
	}
	return nil
}

// out is a field's statements as they were sent. list is their parsed form.
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

// inspect checks the statements of a field, and returns what is in them.
func (p *Provider) inspect(field string, list []string) (Found, error) {
	found, err := Found{}, error(nil)
	if len(list) > 0 {
		found, err = p.CheckStatements(field, list)
	}
	found.field = field
	return found, err
}

// checkPlaceholders refuses placeholders that the field does not have. The database would get
// them unreplaced, and create a user of that name, which nothing revokes.
func (f Found) checkPlaceholders() error {
	known := placeholders[f.field]
	for _, name := range f.Placeholders {
		if slices.Contains(known, name) {
			continue
		}
		if trimmed := strings.Trim(name, " \t.{}"); slices.Contains(known, trimmed) {
			return invalid("field %q: {{%s}} is not a placeholder; write {{%s}}", f.field, name, trimmed)
		}
		return invalid(
			"field %q: {{%s}} is not a placeholder there; use {{%s}}, and separate braces that are data, as in { {",
			f.field, name, strings.Join(known, "}}, {{"))
	}
	return nil
}

// longestPlaceholder is how many bytes after the braces are searched for the end of a placeholder.
const longestPlaceholder = 64

// Placeholder parses a placeholder at the start of rest. It also finds what was probably meant as
// one: {{ name }}, {{user}}, {{.Name}}, {{name}. Other text is data, such as the array
// '{{1,2},{3,4}}'. It reads each byte at most once before the next brace.
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

// checkLogin refuses statements by which users could not log in, or could log in without their
// credentials. set is what the kind of database finds in the statements that set the password or
// key: those that create the user or, for a static role, those of a rotation.
func (c *credentialConfig) checkLogin(p *Provider, set Found, others ...Found) error {
	all := Found{Placeholders: slices.Clone(set.Placeholders)}
	for _, o := range others {
		all.Placeholders = append(all.Placeholders, o.Placeholders...)
	}
	kind, field := c.kind(), set.field
	switch {
	case kind != typePassword && !slices.Contains(p.Logins, kind):
		return invalid("field \"credential_type\": users of %s cannot log in with %s; use credential_type=password",
			p.Name, kind)
	case kind == typePassword && all.Has("public_key", "subject"):
		return invalid("field %q: {{public_key}} and {{subject}} cannot be used with credential_type password; use "+
			"{{password}}, or set credential_type to rsa_private_key or client_certificate", field)
	case kind != typePassword && all.Has("password"):
		return invalid("field %q: {{password}} cannot be used with credential_type %s, whose users have no "+
			"password; remove it from all statements, or set credential_type=password", field, kind)
	case kind == typeRSAKey && all.Has("subject"):
		return invalid("field %q: {{subject}} is the subject of a certificate and cannot be used with "+
			"credential_type %s; use {{public_key}}", field, typeRSAKey)
	case kind == typeRSAKey && !set.Has("public_key"):
		return invalid("field %q: with credential_type %s the statements must tell the database the user's key by "+
			"{{public_key}}, or nobody could log in with it; put it in, or set credential_type=password", field,
			typeRSAKey)
	case kind == typeCertificate && p.BindsSubject && !set.Has("subject"):
		return invalid("field %q: a user without password must be bound to its certificate, or %s accepts any "+
			"client that knows the name; write REQUIRE SUBJECT '{{subject}}' into the "+
			"statement that creates the user",
			field, p.Name)
	}
	return nil
}

// checkCreation refuses statements without the user's name or password. Rules have neither,
// because their kind of database adds both.
func (c *credentialConfig) checkCreation(p *Provider, creation Found) error {
	switch field := creation.field; {
	case p.Rules:
	case !creation.Has("name", "username"):
		return invalid("field %q: {{name}} is missing, so no user of that name would be created; put it where the "+
			"user's name belongs", field)
	case !c.setsPassword(p, creation):
		return invalid("field %q: {{password}} is missing, so nobody could log in with the issued password; put it "+
			"where the user's password belongs, or set credential_type", field)
	}
	return nil
}

// setsPassword reports whether statements set the password that is issued.
func (c *credentialConfig) setsPassword(p *Provider, found Found) bool {
	return p.Rules || c.kind() != typePassword || found.Has("password")
}

// checkRotation refuses a rotation whose statements change no password.
func (c *credentialConfig) checkRotation(p *Provider, field string, list []string) error {
	found, err := p.inspect(field, list)
	if err == nil && len(list) > 0 && !c.setsPassword(p, found) {
		err = invalid("field %q: {{password}} is missing, so the password would not change; put it where the new "+
			"password belongs", field)
	}
	return err
}

// warnRotation warns of statements that change no password. They are stored, as in the reference,
// but rotations are refused.
func (c *credentialConfig) warnRotation(r *route.Request, p *Provider, found Found, statements []string) {
	if len(statements) > 0 && !c.setsPassword(p, found) {
		r.Warn("%s: {{password}} is missing, so it cannot rotate a password; put it where the new "+
			"password belongs", found.field)
	}
}

// IdentifierByte reports whether a byte can be in an unquoted identifier of PostgreSQL or MySQL.
func IdentifierByte(b byte) bool {
	return b == '_' || b == '$' || b >= 0x80 || b >= '0' && b <= '9' || b|0x20 >= 'a' && b|0x20 <= 'z'
}

// Expiration formats a time for {{expiration}}: to the second, and never before the end of the
// lease.
func Expiration(t time.Time) string {
	whole := t.UTC().Truncate(time.Second)
	if whole.Before(t) {
		whole = whole.Add(time.Second)
	}
	return whole.Format("2006-01-02 15:04:05-0700")
}
