package postgres

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/secret"
)

// parseDSN parses connection_url and fills in the credentials. Errors have texts of their own,
// because those of parsers quote their input, which contains a password.
func parseDSN(c database.Config) (settings, error) {
	text := c.URL.RevealString()
	fill := strings.NewReplacer(userMark, c.Username, passwordMark, c.Password.RevealString())
	if strings.TrimSpace(text) == "" {
		return nil, errors.New(
			"connection_url is empty: give a URL such as postgresql://{{username}}:{{password}}@host:5432/database")
	}
	if strings.Contains(text, userMark) && c.Username == "" {
		return nil, errors.New("username is empty, and connection_url has {{username}} in it")
	}
	needsPassword := strings.Contains(text, passwordMark) && c.Password.Empty()
	if c.DisableEscaping {
		text, fill = fill.Replace(text), strings.NewReplacer()
	}
	s, err := split(text)
	if err != nil {
		return nil, err
	}
	if needsPassword && c.TLSCertificate == "" && s["sslcert"] == "" {
		return nil, errors.New("password is empty, and connection_url has {{password}} in it: give it, or a client " +
			"certificate by tls_certificate and private_key")
	}
	// Values are filled in after parsing, so that no character in them is a delimiter.
	for key, value := range s {
		s[key] = fill.Replace(value)
	}
	if s["user"] == "" {
		s["user"] = c.Username
	}
	if s["password"] == "" {
		s["password"] = c.Password.RevealString()
	}
	return s, s.check()
}

func split(text string) (settings, error) {
	if len(text) > database.MaxURL {
		return nil, fmt.Errorf("connection_url is longer than %d bytes: shorten it", database.MaxURL)
	}
	text = strings.TrimSpace(text)
	if strings.ContainsRune(text, 0) {
		return nil, errors.New("connection_url has a NUL byte in it: remove it")
	}
	for _, scheme := range []string{"postgresql://", "postgres://"} {
		if rest, ok := strings.CutPrefix(text, scheme); ok {
			return splitURL(rest)
		}
	}
	if scheme, _, ok := strings.Cut(text, "://"); ok && !strings.ContainsAny(scheme, " =") {
		return nil, errors.New(
			"connection_url must begin with postgresql:// or postgres://, or consist of keyword=value pairs")
	}
	return splitPairs(text)
}

// splitURL parses the part after the scheme:
// [user[:password]@]host[:port][,...][/database][?key=value[&...]].
func splitURL(rest string) (settings, error) {
	s := settings{}
	userinfo, hosts, database, query := cutURL(rest)
	if userinfo == "" && strings.Contains(database+query, "@") {
		return nil, errors.New("connection_url has a / or ? before its @: percent-encode them in the password, or " +
			"write {{username}} and {{password}} and give the two as fields of their own")
	}
	user, password, _ := strings.Cut(userinfo, ":")
	for key, part := range map[string]string{"user": user, "password": password, "dbname": database} {
		if err := s.decode(key, part); err != nil {
			return nil, err
		}
	}
	if err := s.addHosts(hosts); err != nil {
		return nil, err
	}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" || strings.Contains(key, "%") {
			return nil, errors.New("connection_url has a parameter after ? that is not key=value")
		}
		if err := s.decode(canonical(key), value); err != nil {
			return nil, err
		}
	}
	if s["ssl"] == "true" {
		s["sslmode"] = "require"
		delete(s, "ssl")
	}
	return s, nil
}

// cutURL cuts the part after the scheme into four parts, still encoded. An @ in the password that
// is not encoded belongs to the password, so that no part of a password becomes a host, which
// errors show.
func cutURL(rest string) (userinfo, hosts, database, query string) {
	authority := rest
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, rest = rest[:i], rest[i:]
	} else {
		rest = ""
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		userinfo, authority = authority[:i], authority[i+1:]
	}
	rest, query, _ = strings.Cut(rest, "?")
	return userinfo, authority, strings.TrimPrefix(rest, "/"), query
}

// addHosts parses host[:port][,host[:port]...] with IPv6 addresses in brackets.
func (s settings) addHosts(list string) error {
	if list == "" {
		return nil
	}
	var hosts, ports []string
	for one := range strings.SplitSeq(list, ",") {
		host, port, _ := strings.Cut(one, ":")
		if strings.HasPrefix(one, "[") {
			end := strings.IndexByte(one, ']')
			if end < 0 {
				return errors.New("connection_url has an IPv6 host without its closing bracket")
			}
			host, port = one[1:end], strings.TrimPrefix(one[end+1:], ":")
		}
		hosts, ports = append(hosts, host), append(ports, port)
	}
	if err := s.decode("host", strings.Join(hosts, ",")); err != nil {
		return err
	}
	if strings.Trim(strings.Join(ports, ""), ",") != "" {
		s["port"] = strings.Join(ports, ",")
	}
	return nil
}

var errEscape = errors.New("connection_url has a % that does not begin an escape such as %40: percent-encode " +
	"special characters, or write {{username}} and {{password}} and give the two as fields of their own")

// decode sets key to the percent-decoded value, unless it is empty.
func (s settings) decode(key, value string) error {
	if value == "" {
		return nil
	}
	var out strings.Builder
	for i := 0; i < len(value); i++ {
		if value[i] != '%' {
			out.WriteByte(value[i])
			continue
		}
		if i+2 >= len(value) {
			return errEscape
		}
		b, err := strconv.ParseUint(value[i+1:i+3], 16, 8)
		if err != nil || b == 0 {
			return errEscape
		}
		out.WriteByte(byte(b))
		i += 2
	}
	s[key] = out.String()
	return nil
}

var errPairs = errors.New("connection_url is neither a URL nor keyword=value pairs: write " +
	"postgresql://{{username}}:{{password}}@host:5432/database or host=... dbname=... user={{username}} " +
	"password={{password}}, with values that have spaces in single quotes")

// splitPairs parses libpq's keyword/value form: key = value. A value with spaces is in single
// quotes; a backslash escapes a quote or backslash.
func splitPairs(text string) (settings, error) {
	s := settings{}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		key, rest, ok := strings.Cut(text, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" || strings.ContainsAny(key, " \t\r\n'\\") {
			return nil, errPairs
		}
		value, rest, ok := cutValue(strings.TrimLeft(rest, " \t\r\n"))
		if !ok {
			return nil, errPairs
		}
		if text = rest; value != "" {
			s[canonical(key)] = value
		}
	}
	return s, nil
}

// cutValue parses one value and returns the rest.
func cutValue(text string) (value, rest string, ok bool) {
	inQuotes := strings.HasPrefix(text, "'")
	if inQuotes {
		text = text[1:]
	}
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case inQuotes && b == '\'':
			return out.String(), text[i+1:], i+1 == len(text) || strings.IndexByte(" \t\r\n", text[i+1]) >= 0
		case !inQuotes && strings.IndexByte(" \t\r\n", b) >= 0:
			return out.String(), text[i:], true
		default:
			out.WriteByte(b)
		}
	}
	return out.String(), "", !inQuotes
}

func canonical(key string) string {
	if key == "database" {
		return "dbname"
	}
	return key
}

// check refuses settings that cannot work, and those that would use files of Keyturn's machine.
func (s settings) check() error {
	var problems []error
	for _, key := range slices.Sorted(maps.Keys(hostSettings)) {
		if _, ok := s[key]; ok {
			problems = append(problems, fmt.Errorf("connection_url sets %s, which would use %s: remove it",
				key, hostSettings[key]))
		}
	}
	if s["host"] == "" {
		problems = append(problems, errors.New("connection_url names no host"))
	}
	for port := range strings.SplitSeq(s["port"], ",") {
		if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
			problems = append(problems, errors.New("connection_url has a port that is not a number from 1 to 65535 "+
				"(an @, : or / in a password must be percent-encoded)"))
			break
		}
	}
	if mode := s["sslmode"]; mode != "" && !slices.Contains(sslModes, mode) {
		problems = append(problems,
			fmt.Errorf("connection_url has an unknown sslmode: choose one of %s", strings.Join(sslModes, ", ")))
	}
	problems = append(problems, s.unsupported()...)
	problems = append(problems, s.wrongValues()...)
	for key, value := range s {
		if strings.ContainsRune(value, 0) {
			problems = append(problems, fmt.Errorf("connection_url gives %s a NUL byte", key))
		}
	}
	return errors.Join(problems...)
}

// secrets returns the values that no text may show.
func (s settings) secrets() []secret.Value {
	var all []secret.Value
	for key, value := range s {
		if s.hides(key) {
			all = append(all, secret.Text(value))
		}
	}
	return all
}

// strays returns words of an unquoted password with spaces, such as "password=a b=c", that were
// parsed as settings. If the URL contains a password, any setting that is not known may be such a
// word.
func strays(url secret.Value) (words []secret.Value) {
	text := strings.TrimSpace(url.RevealString())
	s, err := split(text)
	if err != nil || strings.HasPrefix(text, "postgres") && strings.Contains(text, "://") ||
		mask(s["password"]) == s["password"] {
		return nil
	}
	for key, value := range s {
		_, library := neutral[key]
		_, pem := pemSettings[key]
		if !library && !pem && !slices.Contains([]string{"host", "user", "password", "dbname"}, key) {
			words = append(words, secret.Text(key), secret.Text(value))
		}
	}
	return words
}

// hides reports whether a setting's value is never shown.
func (s settings) hides(key string) bool {
	return slices.Contains(secretKeys, key) || key == "sslkey" && isPEM(s[key])
}

// neutral has a value for every setting that the library would otherwise take from the environment
// or home folder of the server.
var neutral = settings{
	"port": "5432", "sslmode": "prefer", "sslcert": "", "sslkey": "", "sslrootcert": "", "sslpassword": "",
	"sslcertmode": "allow",
	"sslsni":      "1", "sslnegotiation": "", "target_session_attrs": "any", "connect_timeout": "10",
	"application_name":     appName,
	"min_protocol_version": "", "max_protocol_version": "", "channel_binding": "prefer", "require_auth": "",
	"passfile": "",
	"timezone": "UTC", "options": "",
}

// text returns all settings in keyword/value form, without the password.
func (s settings) text() string {
	all := maps.Clone(neutral)
	maps.Copy(all, s)
	all["password"] = ""
	if all["dbname"] == "" {
		all["dbname"] = all["user"]
	}
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&out, "%s='%s' ", key, quote.Replace(all[key]))
	}
	return out.String()
}

// display masks the passwords in a connection URL. A URL that cannot be parsed is masked as a
// whole.
func display(url secret.Value) string {
	text := strings.TrimSpace(url.RevealString())
	s, err := split(text)
	if err != nil || s.check() != nil || len(strays(url)) > 0 {
		return masked // a part of a password may be in place of a host or port
	}
	hidden := false
	for key, value := range s {
		hidden = hidden || s.hides(key) && mask(value) != value
	}
	if !hidden {
		return text
	}
	scheme, rest, isURL := strings.Cut(text, "://")
	if !isURL || !strings.HasPrefix(scheme, "postgres") {
		return s.displayPairs()
	}
	userinfo, hosts, db, query := cutURL(rest)
	out := scheme + "://"
	if user, password, ok := strings.Cut(userinfo, ":"); ok {
		out += user + ":" + mask(password) + "@"
	} else if userinfo != "" {
		out += userinfo + "@"
	}
	out += hosts
	if db != "" {
		out += "/" + db
	}
	var shown []string
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(pair, "="); s.hides(key) {
			pair = key + "=" + mask(value)
		}
		if pair != "" {
			shown = append(shown, pair)
		}
	}
	if len(shown) > 0 {
		out += "?" + strings.Join(shown, "&")
	}
	return out
}

func (s settings) displayPairs() string {
	var shown []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		value := s[key]
		if s.hides(key) {
			value = mask(value)
		}
		if strings.ContainsAny(value, ` '\`) {
			value = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
		}
		shown = append(shown, key+"="+value)
	}
	return strings.Join(shown, " ")
}

func mask(value string) string {
	if value == "" || value == passwordMark {
		return value
	}
	return masked
}
