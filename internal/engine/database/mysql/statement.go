package mysql

import (
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// A place is the lexical context of a byte in SQL.
type place uint8

const (
	code    place = iota
	literal       // '...' and "...": sessions have neither ANSI_QUOTES nor NO_BACKSLASH_ESCAPES
	quoted        // `...`
	comment
)

// A lexer scans SQL as the server does. It knows only enough to find the ends of quotes and
// statements.
type lexer struct {
	src   string
	pos   int
	place place
	mark  byte // the end of a literal, or of a comment: '\n' or '*'
}

// step advances over one delimiter, escape or byte and returns its place.
func (l *lexer) step() place {
	at, n := l.place, 1
	rest := l.src[l.pos:]
	switch l.place {
	case code:
		n = l.open(rest)
		if l.place != code {
			at = l.place
		}
	case literal, quoted:
		switch {
		case l.place == literal && rest[0] == '\\' && len(rest) > 1:
			n = 2
		case rest[0] == l.mark && len(rest) > 1 && rest[1] == l.mark:
			n = 2
		case rest[0] == l.mark:
			l.place = code
		}
	case comment:
		if l.mark == '\n' && rest[0] == '\n' {
			l.place = code
		} else if l.mark == '*' && strings.HasPrefix(rest, "*/") {
			n, l.place = 2, code
		}
	}
	l.pos += n
	return at
}

// open advances in code, where a quote or comment may begin, and returns the number of bytes.
// Comments that the server runs (/*! and /*M!) are code.
func (l *lexer) open(rest string) int {
	switch b := rest[0]; {
	case b == '\'' || b == '"':
		l.place, l.mark = literal, b
	case b == '`':
		l.place, l.mark = quoted, b
	case b == '#', strings.HasPrefix(rest, "--") && (len(rest) == 2 || rest[2] <= ' '):
		l.place, l.mark = comment, '\n'
	case strings.HasPrefix(rest, "/*!"), strings.HasPrefix(rest, "/*M!"):
		return 3
	case strings.HasPrefix(rest, "/*"):
		l.place, l.mark = comment, '*'
		return 2
	}
	return 1
}

// A statement is one message to the server.
type statement struct {
	sql       string
	word      string // the first word, upper case
	next      string // the second word
	secretive bool   // contains the password
}

// compile splits statements at their semicolons and replaces their placeholders, each a name in
// double braces. The error is of kind Invalid and names field.
func compile(field string, texts []string, values map[string]string) ([]statement, error) {
	var all []statement
	for _, text := range texts {
		parts, err := cut(field, text)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			sql, err := substitute(field, part, values)
			if err != nil {
				return nil, err
			}
			word, next := firstWords(part)
			all = append(all,
				statement{sql: sql, word: word, next: next, secretive: strings.Contains(part, passwordMark)})
		}
	}
	if len(all) == 0 {
		return nil, fault.New("mysql.compile", fault.Invalid,
			"%s has no statement in it; write one, or leave the field out", field)
	}
	return all, nil
}

// inspect checks the statements of a field and returns what they contain.
func inspect(field string, texts []string) (found database.Found, err error) {
	if err := database.CheckSize(field, texts); err != nil {
		return found, err
	}
	all, err := compile(field, texts, nil)
	if err != nil {
		return found, err
	}
	for _, one := range all {
		l := lexer{src: one.sql}
		for l.pos < len(l.src) {
			if name, ok := database.Placeholder(l.src[l.pos:]); ok && l.place != comment && !found.Has(name) {
				found.Placeholders = append(found.Placeholders, name)
			}
			l.step()
		}
	}
	found.Queries = !slices.ContainsFunc(all, func(s statement) bool { return s.word != "SELECT" })
	return found, nil
}

// clientCommands are commands of the mysql client that are no SQL.
var clientCommands = []string{"DELIMITER", "SOURCE", "CONNECT", "SYSTEM", "TEE", "PAGER", "PROMPT", "REHASH", "STATUS",
	"WARNINGS"}

// cut splits a text at its semicolons, except inside of a routine or block, which is one
// statement.
func cut(field, text string) (parts []string, err error) {
	if strings.ContainsRune(text, 0) {
		return nil, fault.New("mysql.compile", fault.Invalid, "%s has a NUL byte in it; remove it", field)
	}
	from, first := 0, opening{}
	end := func(to int) error {
		first.end()
		switch w := first.words; {
		case len(w) == 0:
		case w[0] == "DELIMITER":
			return fault.New("mysql.compile", fault.Invalid, "%s says DELIMITER, which is a command of the mysql "+
				"client: write each routine as an element of its own in a list, without it", field)
		case slices.Contains(clientCommands, w[0]):
			return fault.New("mysql.compile", fault.Invalid,
				"%s says %s, which is a command of the mysql client, not SQL; remove it", field, w[0])
		default:
			parts = append(parts, strings.TrimSpace(text[from:to]))
		}
		from, first = to+1, opening{}
		return nil
	}
	l := lexer{src: text}
	for l.pos < len(text) {
		at := l.pos
		place := l.step()
		switch {
		case place == code && text[at] == ';' && !first.block():
			if err := end(at); err != nil {
				return nil, err
			}
		case place == code && text[at] == '\\' && !strings.HasPrefix(text[at:], `\N`):
			return nil, fault.New("mysql.compile", fault.Invalid, "%s has %q outside of quotes, which is a command "+
				"of the mysql client, not SQL; remove it: statements run in the database of connection_url",
				field, text[at:min(at+2, len(text))])
		default:
			first.add(place, text[at])
		}
	}
	if l.place != code && !(l.place == comment && l.mark == '\n') {
		what := map[place]string{literal: "a quote", quoted: "a backtick", comment: "a /*"}[l.place]
		return nil, fault.New("mysql.compile", fault.Invalid,
			"%s opens %s that is never closed; close it within the same statement text", field, what)
	}
	return parts, end(len(text))
}

// An opening collects the first words of a statement in upper case, byte by byte. The first word
// is "?" if the statement begins with something else; there is none if it has only spaces and
// comments.
type opening struct {
	words []string
	word  []byte
}

// openingWords is the number of words that identify a statement.
const openingWords = 10

func (o *opening) add(at place, b byte) {
	if len(o.words) == openingWords {
		return
	}
	if at == code && database.IdentifierByte(b) {
		if len(o.word) < 64 { // no relevant word is longer
			o.word = append(o.word, b)
		}
		return
	}
	o.end()
	if at != comment && len(o.words) == 0 && (at != code || b > ' ') {
		o.words = append(o.words, "?")
	}
}

// end ends a word.
func (o *opening) end() {
	if len(o.word) > 0 {
		o.words = append(o.words, strings.ToUpper(string(o.word)))
	}
	o.word = o.word[:0]
}

// block reports whether the statement may contain semicolons.
func (o *opening) block() bool {
	o.end()
	w := o.words
	if len(w) == 0 {
		return false
	}
	switch w[0] {
	case "BEGIN":
		return len(w) > 1 && w[1] == "NOT"
	case "IF", "CASE", "LOOP", "WHILE", "REPEAT", "FOR":
		return true
	case "CREATE", "ALTER":
		return slices.ContainsFunc(w[1:], func(s string) bool {
			return slices.Contains([]string{"PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE"}, s)
		})
	}
	return false
}

// firstWords returns the first two words of a statement that cut returned.
func firstWords(sql string) (word, next string) {
	var o opening
	l := lexer{src: sql}
	for l.pos < len(sql) && len(o.words) < 2 {
		at := l.pos
		o.add(l.step(), sql[at])
	}
	o.end()
	if len(o.words) > 1 {
		next = o.words[1]
	}
	return o.words[0], next
}

// stateless are the commands that do not change the session. After others the session is closed.
var stateless = []string{"CREATE", "ALTER", "DROP", "GRANT", "REVOKE"}

// changesSession reports whether a statement may change the session.
func changesSession(all []statement) bool {
	return slices.ContainsFunc(all, func(s statement) bool { return !slices.Contains(stateless, s.word) })
}

// substitute replaces placeholders. In quotes a value is escaped, so that it arrives unchanged and
// cannot end them; elsewhere it may only contain bytes without a special meaning.
func substitute(field, text string, values map[string]string) (string, error) {
	var out strings.Builder
	l := lexer{src: text}
	for l.pos < len(text) {
		name, _ := database.Placeholder(text[l.pos:])
		value, found := values[name]
		if !found || l.place == comment {
			from := l.pos
			l.step()
			out.WriteString(text[from:l.pos])
			continue
		}
		fitted, ok := l.fit(value)
		if !ok {
			return "", fault.New("mysql.compile", fault.Invalid, "%s has {{%s}} where its value cannot stand as it "+
				"is: put it between single quotes, or change the password policy", field, name)
		}
		out.WriteString(fitted)
		l.pos += len(name) + 4
	}
	return out.String(), nil
}

// fit escapes a value for the current place; false if that is not possible.
func (l *lexer) fit(value string) (string, bool) {
	if strings.ContainsRune(value, 0) {
		return "", false
	}
	switch l.place {
	case literal:
		return strings.NewReplacer(`\`, `\\`, string(l.mark), string(l.mark)+string(l.mark)).Replace(value), true
	case quoted:
		return strings.ReplaceAll(value, "`", "``"), true
	}
	harmless := !strings.ContainsFunc(value,
		func(c rune) bool { return c >= 0x80 || !database.IdentifierByte(byte(c)) })
	return value, harmless
}

// text quotes a string for SQL.
func quoteText(s string) string {
	return `'` + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + `'`
}
