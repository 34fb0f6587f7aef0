package database

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
)

// Parts of a user's name: v-<display>-<role>-<marker><random>-<unix>. The marker tells
// users of this installation from those of another in the same database.
const (
	markLen    = 4
	randomLen  = 16
	displayMax = 8
	roleMax    = 20
)

// marker is what an installation's users have in their names.
func marker(installation string) string {
	sum := sha256.Sum256([]byte(installation))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:markLen]
}

// random is n characters of a-z and 2-7, of which the first are the marker.
func random(installation string, n int) string {
	var b strings.Builder
	if n >= markLen+8 {
		b.WriteString(marker(installation))
	}
	for b.Len() < n {
		b.WriteString(strings.ToLower(rand.Text()))
	}
	return b.String()[:n]
}

// clean replaces what no user name of ours may hold.
func clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' {
			return c
		}
		return '-'
	}, s)
}

// A naming is what a user is named after.
type naming struct {
	installation, display, role string
	longest                     int
	now                         time.Time
}

// name makes a new user's name, by a template or in our own way.
func (n naming) name(text string) (string, error) {
	n.display, n.role = clean(n.display), clean(n.role)
	if n.longest <= 0 || n.longest > 63 {
		n.longest = 63
	}
	if text == "" {
		return n.ownName(), nil
	}
	t, err := n.template(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := t.Execute(&out, map[string]string{"DisplayName": n.display, "RoleName": n.role}); err != nil {
		return "", templateError(err)
	}
	name := strings.TrimSpace(out.String())
	switch {
	case !ValidName(name):
		return "", invalid("field \"username_template\": it made %q, and a user's name must be 1 to 63 of A-Z a-z 0-9 . _ -", clip(name))
	case len(name) > n.longest:
		return "", invalid("field \"username_template\": it made %q of %d bytes, and the database takes %d; use truncate", name, len(name), n.longest)
	}
	return name, nil
}

// ownName fits what is random first, then the role, then who asks.
func (n naming) ownName() string {
	longest := n.longest
	var tail string
	switch {
	case longest >= 45:
		tail = random(n.installation, markLen+randomLen) + "-" + strconv.FormatInt(n.now.Unix(), 10)
	case longest >= 24:
		tail = random(n.installation, markLen+randomLen-4)
	default:
		return ("v-" + random(n.installation, max(longest-2, 1)))[:longest] // no room for more
	}
	left := longest - len("v--") - len(tail)
	middle := n.role[:min(len(n.role), roleMax, left)]
	if n.display == "" {
		n.display = "token"
	}
	if left -= len(middle) + 1; left >= 3 {
		middle = n.display[:min(len(n.display), displayMax, left)] + "-" + middle
	}
	return "v-" + middle + "-" + tail
}

// template reads a template: a text with fields and functions alone. What it makes
// is bounded, and without loops it ends.
func (n naming) template(text string) (*template.Template, error) {
	if len(text) > longestText {
		return nil, invalid("field \"username_template\": it is longer than %d bytes; shorten it", longestText)
	}
	t, err := template.New("username").Option("missingkey=error").Funcs(n.functions()).Parse(text)
	if err != nil {
		return nil, templateError(err)
	}
	for _, node := range t.Root.Nodes {
		switch node.(type) {
		case *parse.TextNode, *parse.ActionNode:
		default:
			return nil, invalid("field \"username_template\": only text and {{...}} with fields and functions are accepted, neither conditions nor loops")
		}
	}
	return t, nil
}

func (n naming) functions() template.FuncMap {
	none := func(...any) (string, error) { return "", errors.New("there is no such function for user names") }
	return template.FuncMap{
		"random": func(length int) (string, error) {
			if length < 1 || length > 100 {
				return "", fmt.Errorf("random takes 1 to 100, not %d", length)
			}
			return random(n.installation, length), nil
		},
		"truncate": truncate, "truncate_sha256": truncateHashed,
		"uppercase":        strings.ToUpper,
		"lowercase":        strings.ToLower,
		"replace":          replace,
		"sha256":           func(s string) string { sum := sha256.Sum256([]byte(s)); return hex.EncodeToString(sum[:]) },
		"base64":           func(s string) (string, error) { return short(base64.StdEncoding.EncodeToString([]byte(s))) },
		"unix_time":        func() string { return strconv.FormatInt(n.now.Unix(), 10) },
		"unix_time_millis": func() string { return strconv.FormatInt(n.now.UnixMilli(), 10) },
		"timestamp":        func(layout string) string { return n.now.UTC().Format(layout) },
		"uuid":             uuid,
		// Go's own are unbounded, or make no sense here.
		"print":   func(args ...any) (string, error) { return short(fmt.Sprint(args...)) },
		"printf":  printf,
		"println": none, "html": none, "js": none, "urlquery": none, "call": none, "slice": none, "index": none,
	}
}

// longestText bounds a template, and what each function of it returns, so that functions
// of functions do not grow without end.
const longestText = 1024

func short(s string) (string, error) {
	if len(s) > longestText {
		return "", fmt.Errorf("a part of it is longer than %d bytes; shorten it", longestText)
	}
	return s, nil
}

// wide finds widths that would make long texts of short ones.
var wide = regexp.MustCompile(`[0-9]{3}|\*`)

func printf(format string, args ...any) (string, error) {
	if wide.MatchString(format) {
		return "", errors.New("printf takes widths of at most two digits")
	}
	return short(fmt.Sprintf(format, args...))
}

func replace(old, by, s string) (string, error) {
	if len(s)+(strings.Count(s, old)*len(by)) > 4*longestText {
		return "", fmt.Errorf("a part of it is longer than %d bytes; shorten it", longestText)
	}
	return short(strings.ReplaceAll(s, old, by))
}

func uuid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func templateError(err error) error {
	return &fault.Error{Op: "database.template", Kind: fault.Invalid, Err: err,
		Msg: `field "username_template": ` + strings.TrimPrefix(err.Error(), "template: ")}
}

func truncate(n int, s string) (string, error) {
	if n < 1 {
		return "", fmt.Errorf("truncate takes 1 or more, not %d", n)
	}
	return s[:min(n, len(s))], nil
}

// truncateHashed ends what is too long in a part of its hash, so that it stays distinct.
func truncateHashed(n int, s string) (string, error) {
	const kept = 8
	if n <= kept {
		return "", fmt.Errorf("truncate_sha256 takes more than %d, not %d", kept, n)
	}
	if len(s) <= n {
		return s, nil
	}
	sum := sha256.Sum256([]byte(s[n-kept:]))
	return s[:n-kept] + hex.EncodeToString(sum[:])[:kept], nil
}

// checkTemplate tries a template: two users must not get the same name.
func checkTemplate(text string, longest int) error {
	if text == "" {
		return nil
	}
	n := naming{installation: "sample", display: "token", role: "role", longest: longest, now: time.Now()}
	one, err := n.name(text)
	if err != nil {
		return err
	}
	if two, err := n.name(text); err != nil || one == two {
		return invalid("field \"username_template\": it made the name %q twice; put {{random 20}} into it", one)
	}
	return nil
}
