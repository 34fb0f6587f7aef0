package postgres

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
	literal       // '...', also of B, X and N; backslashes are plain
	escaped       // E'...' and U&'...'
	quoted        // "..."
	dollar        // $tag$...$tag$
	comment       // -- and /* */
)

// A lexer scans SQL as the server does with standard_conforming_strings on. It knows only enough
// to find the ends of quotes and statements.
type lexer struct {
	src   string
	pos   int
	place place
	tag   string // the tag of a dollar quote
	deep  int    // nesting of /* */, -1 for --
	prev  byte   // the byte before pos, 0 at the start
}

// step advances over one delimiter or one byte and returns its place.
func (l *lexer) step() place {
	at := l.place
	n := 1
	rest := l.src[l.pos:]
	switch l.place {
	case code:
		n = l.open(rest)
		if l.place != code {
			at = l.place
		}
	case literal, escaped, quoted:
		n = l.inQuotes(rest)
	case dollar:
		if strings.HasPrefix(rest, l.tag) {
			n, l.place = len(l.tag), code
		}
	case comment:
		n = l.inComment(rest)
	}
	l.prev = l.src[l.pos+n-1]
	if at == dollar && l.place == code {
		l.prev = ' ' // the closing $ is not part of an identifier
	}
	l.pos += n
	return at
}

// open advances in code, where a quote or comment may begin, and returns the number of bytes.
func (l *lexer) open(rest string) int {
	switch {
	case rest[0] == '\'':
		l.place = literal
		if l.prefixed() {
			l.place = escaped
		}
	case rest[0] == '"':
		l.place = quoted
	case strings.HasPrefix(rest, "--"):
		l.place, l.deep = comment, -1
		return 2
	case strings.HasPrefix(rest, "/*"):
		l.place, l.deep = comment, 1
		return 2
	case rest[0] == '$' && !database.IdentifierByte(l.prev):
		if tag := dollarTag(rest); tag != "" {
			l.place, l.tag = dollar, tag
			return len(tag)
		}
	}
	return 1
}

// prefixed reports whether the quote at pos follows the whole word E or U&.
func (l *lexer) prefixed() bool {
	before := l.src[:l.pos]
	word := strings.TrimSuffix(before, "&")
	if word == "" || (len(word) != len(before) && word[len(word)-1]|0x20 != 'u') ||
		(len(word) == len(before) && word[len(word)-1]|0x20 != 'e') {
		return false
	}
	return len(word) == 1 || !database.IdentifierByte(word[len(word)-2])
}

func (l *lexer) inQuotes(rest string) int {
	mark := byte('\'')
	if l.place == quoted {
		mark = '"'
	}
	switch {
	case l.place == escaped && rest[0] == '\\' && len(rest) > 1:
		return 2
	case rest[0] == mark && len(rest) > 1 && rest[1] == mark:
		return 2
	case rest[0] == mark:
		l.place = code
	}
	return 1
}

func (l *lexer) inComment(rest string) int {
	switch {
	case l.deep < 0:
		if rest[0] == '\n' || rest[0] == '\r' {
			l.place = code
		}
	case strings.HasPrefix(rest, "/*"):
		l.deep++
		return 2
	case strings.HasPrefix(rest, "*/"):
		if l.deep--; l.deep == 0 {
			l.place = code
		}
		return 2
	}
	return 1
}

// dollarTag returns the opening $tag$ that rest starts with, or "".
func dollarTag(rest string) string {
	for i := 1; i < len(rest); i++ {
		switch b := rest[i]; {
		case b == '$':
			return rest[:i+1]
		case !database.IdentifierByte(b), i == 1 && b >= '0' && b <= '9':
			return ""
		}
	}
	return ""
}

// A script is SQL that is sent as one message.
type script struct {
	sql   string
	first []string // the first words of each statement, upper case: "CREATE ROLE"
	ours  bool     // the default statements of this package
}

// compile joins statements and replaces their placeholders, each a name in double braces. The
// error is of kind Invalid and names field.
func compile(field string, statements []string, values map[string]string) (script, error) {
	var s script
	var sql strings.Builder
	for _, text := range statements {
		if err := checkText(field, text); err != nil {
			return script{}, err
		}
		filled, err := substitute(field, text, values)
		if err != nil {
			return script{}, err
		}
		s.first = append(s.first, firstWords(filled)...)
		sql.WriteString(filled)
		sql.WriteString("\n;\n") // on a new line, because the text may end in a comment
	}
	s.sql = sql.String()
	if len(s.first) == 0 {
		return script{},
			fault.New("postgres.compile", fault.Invalid,
				"%s has no statement in it; write SQL, or leave the field empty", field)
	}
	return s, checkWords(field, s.first)
}

// inspect checks the statements of a field and returns what they contain.
func inspect(field string, statements []string) (found database.Found, err error) {
	if err := database.CheckSize(field, statements); err != nil {
		return found, err
	}
	s, err := compile(field, statements, nil)
	if err != nil {
		return found, err
	}
	for _, text := range statements {
		l := lexer{src: text}
		for l.pos < len(text) {
			if name, ok := database.Placeholder(text[l.pos:]); ok && l.place != comment && !found.Has(name) {
				found.Placeholders = append(found.Placeholders, name)
			}
			l.step()
		}
	}
	found.Queries = !slices.ContainsFunc(s.first,
		func(words string) bool { return words != "SELECT" && !strings.HasPrefix(words, "SELECT ") })
	return found, nil
}

// checkText refuses a text with an open quote or comment, or with something that is no SQL.
func checkText(field, text string) error {
	if strings.ContainsRune(text, 0) {
		return fault.New("postgres.compile", fault.Invalid, "%s has a NUL byte in it; remove it", field)
	}
	l := lexer{src: text}
	for l.pos < len(text) {
		from := l.pos
		if l.step() == code && text[from] == '\\' {
			return fault.New("postgres.compile", fault.Invalid, "%s has %s, which is a command of psql, not SQL; "+
				"remove it: statements run in the database of connection_url, and each "+
				"database has a connection of its own", field, metaCommand(text[from:]))
		}
	}
	if l.place != code && !(l.place == comment && l.deep < 0) {
		what := map[place]string{literal: "a '", escaped: "a '", quoted: `a "`, dollar: "a dollar quote",
			comment: "a /*"}[l.place]
		return fault.New("postgres.compile", fault.Invalid,
			"%s opens %s that is never closed; close it within the same statement text", field, what)
	}
	return nil
}

// metaCommand returns the psql command at the start of rest, shortened for an error.
func metaCommand(rest string) string {
	end := 1
	for end < len(rest) && end < 16 && database.IdentifierByte(rest[end]) && rest[end] < 0x80 {
		end++
	}
	return rest[:end]
}

// transactionCommands would end the transaction in which all statements run.
var transactionCommands = []string{"BEGIN", "START TRANSACTION", "COMMIT", "END", "ROLLBACK", "ABORT",
	"PREPARE TRANSACTION", "SAVEPOINT", "RELEASE"}

func checkWords(field string, first []string) error {
	for _, words := range first {
		word, _, _ := strings.Cut(words, " ")
		if slices.Contains(transactionCommands, word) || slices.Contains(transactionCommands, words) {
			return fault.New("postgres.compile", fault.Invalid,
				"%s says %s: its statements already run as one transaction; remove it", field, word)
		}
	}
	return nil
}

// stateless are the commands that do not change the session. After others the session is reset.
var stateless = []string{"CREATE", "ALTER", "DROP", "GRANT", "REVOKE", "REASSIGN", "COMMENT", "SECURITY"}

// resets reports whether the script may change its session.
func (s script) resets() bool {
	return slices.ContainsFunc(s.first, func(words string) bool {
		word, _, _ := strings.Cut(words, " ")
		return !slices.Contains(stateless, word) && words != "SET LOCAL"
	})
}

// substitute replaces placeholders. In quotes a value is escaped, so that it arrives unchanged and
// cannot end them; elsewhere it may only contain bytes without a special meaning. Generated names
// and passwords are allowed everywhere.
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
		fitted, ok := fit(value, l.place)
		if !ok {
			return "", fault.New("postgres.compile", fault.Invalid, "%s has {{%s}} where its value cannot stand as "+
				"it is: put it between single quotes, or change the password policy", field, name)
		}
		out.WriteString(fitted)
		l.pos += len(name) + 4
		l.prev = '_' // the next byte belongs to the same word as the value
	}
	return out.String(), nil
}

// fit escapes a value for a place; false if that is not possible.
func fit(value string, at place) (string, bool) {
	if strings.ContainsRune(value, 0) {
		return "", false
	}
	switch at {
	case literal:
		return strings.ReplaceAll(value, `'`, `''`), true
	case escaped:
		return strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(value), true
	case quoted:
		return strings.ReplaceAll(value, `"`, `""`), true
	case dollar:
		return value,
			!strings.ContainsAny(value, `'"\`) && !strings.HasPrefix(value, "$") && !strings.HasSuffix(value, "$") &&
				dollarsAreApart(value)
	default:
		return value, !strings.ContainsFunc(value, func(r rune) bool {
			return r >= 0x80 || !database.IdentifierByte(byte(r)) && !strings.ContainsRune(".:+- ", r) || r == '$'
		}) && !strings.Contains(value, "--")
	}
}

// dollarsAreApart reports whether no two dollars of value could end a dollar quote. Those of a
// SCRAM verifier cannot.
func dollarsAreApart(value string) bool {
	for i := range len(value) {
		if value[i] == '$' && dollarTag(value[i:]) != "" {
			return false
		}
	}
	return true
}

// firstWords splits text at its semicolons and returns the first two words of each statement.
func firstWords(text string) []string {
	var all []string
	s := splitter{}
	l := lexer{src: text}
	for l.pos < len(text) {
		from := l.pos
		at := l.step()
		if at != code {
			s.endWord()
			if at != comment {
				s.some = true
			}
			continue
		}
		if words, done := s.add(text[from]); done {
			all = appendWords(all, words)
		}
	}
	s.endWord()
	return appendWords(all, s.first())
}

func appendWords(all []string, words string) []string {
	if words == "" {
		return all
	}
	return append(all, words)
}

// A splitter finds the ends of statements: semicolons outside of parentheses, as in rules, and
// outside of the body of a function in SQL.
type splitter struct {
	words  []string // the first four of the statement
	word   []byte
	some   bool // the statement contains something other than words
	parens int
	blocks int // number of open BEGIN ATOMIC and CASE
}

func (s *splitter) add(b byte) (words string, done bool) {
	if database.IdentifierByte(b) {
		s.word = append(s.word, b)
		return "", false
	}
	s.endWord()
	switch {
	case b == '(':
		s.parens++
	case b == ')':
		s.parens--
	case b == ';' && s.parens <= 0 && s.blocks == 0:
		words = s.first()
		*s = splitter{}
		return words, true
	}
	if b > ' ' && b != ';' {
		s.some = true
	}
	return "", false
}

func (s *splitter) endWord() {
	if len(s.word) == 0 {
		return
	}
	word := strings.ToUpper(string(s.word))
	s.word = s.word[:0]
	if len(s.words) < 4 {
		s.words = append(s.words, word)
	}
	if !s.routine() {
		return
	}
	switch {
	case word == "BEGIN" || word == "CASE" && s.blocks > 0:
		s.blocks++
	case word == "END" && s.blocks > 0:
		s.blocks--
	}
}

// routine reports whether the statement creates a function or procedure.
func (s *splitter) routine() bool {
	return len(s.words) > 1 && s.words[0] == "CREATE" &&
		slices.ContainsFunc(s.words[1:], func(w string) bool { return w == "FUNCTION" || w == "PROCEDURE" })
}

// first returns the first two words, or "?" for a statement without words.
func (s *splitter) first() string {
	if len(s.words) == 0 {
		if s.some {
			return "?"
		}
		return ""
	}
	return strings.Join(s.words[:min(2, len(s.words))], " ")
}
