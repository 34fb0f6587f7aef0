// Package username generates names of users that engines create. The names contain a marker of the
// installation, and follow a template of the operator.
package username

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

// Repeats is the warning about a template that has made the same name twice.
const Repeats = "%s makes the same name again, such as %q: a user cannot be created while another has its name; put " +
	"{{random 20}} into it"

// MarkLen is the length of the installation's marker in a random part.
const MarkLen = 4

// Marker is the marker in the names of an installation's users.
func Marker(installation string) string {
	sum := sha256.Sum256([]byte(installation))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:MarkLen]
}

// Random returns n characters of a-z and 2-7, which begin with the marker.
func Random(installation string, n int) string {
	var b strings.Builder
	if n >= MarkLen+8 {
		b.WriteString(Marker(installation))
	}
	for b.Len() < n {
		b.WriteString(strings.ToLower(rand.Text()))
	}
	return b.String()[:n]
}

// Clean replaces characters that our user names must not contain.
func Clean(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' {
			return c
		}
		return '-'
	}, s)
}

// A Maker generates names with templates.
type Maker struct {
	Installation string
	Fields       map[string]string // {{.RoleName}}, {{.DisplayName}} …
	Now          time.Time
}

// Make generates a name. An error of kind Invalid names the field "username_template".
func (n Maker) Make(text string) (string, error) {
	t, err := n.template(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	if err := t.Execute(&out, n.Fields); err != nil {
		return "", templateError(err)
	}
	return strings.TrimSpace(out.String()), nil
}

// template reads a template: a text with fields and functions alone. What it makes
// is bounded, and without loops it ends.
func (n Maker) template(text string) (*template.Template, error) {
	if len(text) > longestText {
		return nil, fault.New(op, fault.Invalid, "field \"username_template\": it is longer than %d bytes; shorten it",
			longestText)
	}
	t, err := template.New("username").Option("missingkey=error").Funcs(n.functions()).Parse(text)
	if err != nil {
		return nil, templateError(err)
	}
	if !bounded(t.Root) {
		return nil, fault.New(op, fault.Invalid,
			"field \"username_template\": only text, conditions and {{...}} with fields and functions are accepted, "+
				"and no loops")
	}
	return t, nil
}

// bounded reports whether a template has nothing but text, actions and conditions.
func bounded(list *parse.ListNode) bool {
	if list == nil {
		return true
	}
	for _, node := range list.Nodes {
		switch node := node.(type) {
		case *parse.TextNode, *parse.ActionNode:
		case *parse.IfNode:
			if !bounded(node.List) || !bounded(node.ElseList) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func (n Maker) functions() template.FuncMap {
	none := func(...any) (string, error) { return "", errors.New("there is no such function for user names") }
	return template.FuncMap{
		"random": func(length int) (string, error) {
			if length < 1 || length > 100 {
				return "", fmt.Errorf("random takes 1 to 100, not %d", length)
			}
			return Random(n.Installation, length), nil
		},
		"truncate": truncate, "truncate_sha256": truncateHashed,
		"uppercase": strings.ToUpper,
		"lowercase": strings.ToLower,
		"replace":   replace,
		"sha256": func(s string) string {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:])
		},
		"base64": func(s string) (string, error) {
			return short(base64.StdEncoding.EncodeToString([]byte(s)))
		},
		"unix_time":        func() string { return strconv.FormatInt(n.Now.Unix(), 10) },
		"unix_time_millis": func() string { return strconv.FormatInt(n.Now.UnixMilli(), 10) },
		"timestamp":        func(layout string) string { return n.Now.UTC().Format(layout) },
		"uuid":             uuid,
		// Go's own are unbounded, or make no sense here.
		"print":   func(args ...any) (string, error) { return short(fmt.Sprint(args...)) },
		"printf":  printf,
		"println": none, "html": none, "js": none, "urlquery": none, "call": none, "slice": none, "index": none,
	}
}

const op = "username.Make"

// longestText limits a template, and the result of each of its functions, so that nested functions
// cannot grow the text without limit.
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
	return &fault.Error{Op: op, Kind: fault.Invalid, Err: err,
		Msg: `field "username_template": ` + strings.TrimPrefix(err.Error(), "template: ")}
}

func truncate(n int, s string) (string, error) {
	if n < 1 {
		return "", fmt.Errorf("truncate takes 1 or more, not %d", n)
	}
	return s[:min(n, len(s))], nil
}

// truncateHashed replaces the end of a text that is too long by a part of its hash, so that it
// stays unique.
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
