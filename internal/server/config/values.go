package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-sockaddr/template"
	"github.com/hashicorp/hcl/hcl/ast"
	"github.com/hashicorp/hcl/hcl/token"

	"github.com/keyturn/keyturn/internal/wire"
)

// then runs one setter after the other.
func then(first, second setter) setter {
	return func(item *ast.ObjectItem) {
		first(item)
		second(item)
	}
}

// literal returns a member's value as text, and the kind of the literal.
func (r *report) literal(item *ast.ObjectItem) (string, token.Type, bool) {
	lit, ok := item.Val.(*ast.LiteralType)
	if ok && len(item.Keys) == 1 {
		switch v := lit.Token.Value().(type) {
		case string:
			return v, lit.Token.Type, true
		case int64:
			return strconv.FormatInt(v, 10), lit.Token.Type, true
		case float64:
			return strconv.FormatFloat(v, 'g', -1, 64), lit.Token.Type, true
		case bool:
			return strconv.FormatBool(v), lit.Token.Type, true
		}
	}
	r.problem(r.at(item), "%s: want one value, not a block or a list", label(item, 0))
	return "", token.ILLEGAL, false
}

// scalar sets a string from a value of any kind.
func (r *report) scalar(into *string) setter {
	return func(item *ast.ObjectItem) {
		if text, _, ok := r.literal(item); ok {
			*into = text
		}
	}
}

// text sets a string.
func (r *report) text(into *string) setter {
	return func(item *ast.ObjectItem) {
		text, kind, ok := r.literal(item)
		if ok && kind != token.STRING && kind != token.HEREDOC {
			r.problem(r.at(item), "%s: want text in quotes", label(item, 0))
			return
		}
		*into = text
	}
}

// oneOf sets one of several words.
func (r *report) oneOf(into *string, words ...string) setter {
	return then(r.text(into), func(item *ast.ObjectItem) {
		if !slices.Contains(words, *into) {
			r.problem(r.at(item), "%s: want one of %s, not %q", label(item, 0), strings.Join(words, ", "), *into)
		}
	})
}

// boolean sets a boolean, which may be quoted.
func (r *report) boolean(into *bool) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := r.literal(item)
		if !ok {
			return
		}
		b, err := strconv.ParseBool(text)
		if err != nil {
			r.problem(r.at(item), "%s: want true or false, not %q", label(item, 0), text)
		}
		*into = b
	}
}

// negated sets the opposite of a boolean.
func (r *report) negated(into *bool) setter {
	var b bool
	return then(r.boolean(&b), func(*ast.ObjectItem) { *into = !b })
}

// duration sets a time of at least a second: a number of seconds, or text such as "1h30m".
func (r *report) duration(into *time.Duration) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := r.literal(item)
		if !ok {
			return
		}
		d, err := wire.ParseDuration(text)
		if err != nil || d < time.Second {
			r.problem(r.at(item),
				`%s: want a duration of at least a second such as "1h30m" or a number of seconds, not %q`,
				label(item, 0), text)
		}
		*into = d
	}
}

// durationOrZero sets a time as duration does, or 0, which means none or the default.
func (r *report) durationOrZero(into *time.Duration) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := r.literal(item)
		if d, err := wire.ParseDuration(text); ok && err == nil && d == 0 && text != "" {
			*into = 0
			return
		}
		if ok {
			r.duration(into)(item)
		}
	}
}

// number sets a whole number within two bounds.
func (r *report) number(into *int64, low, high int64, what string) setter {
	return func(item *ast.ObjectItem) {
		text, _, ok := r.literal(item)
		if !ok {
			return
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < low || n > high {
			r.problem(r.at(item), "%s: want %s, not %q", label(item, 0), what, text)
			return
		}
		*into = n
	}
}

// integer sets an int, as number does.
func (r *report) integer(into *int, low, high int, what string) setter {
	n := int64(*into)
	return then(r.number(&n, int64(low), int64(high), what), func(*ast.ObjectItem) { *into = int(n) })
}

// elements returns the elements of a list, or of a text with commas, and their positions.
func (r *report) elements(item *ast.ObjectItem) (texts []string, at []Position, ok bool) {
	switch v := item.Val.(type) {
	case *ast.ListType:
		for _, node := range v.List {
			var text string
			if lit, is := node.(*ast.LiteralType); is {
				text = fmt.Sprint(lit.Token.Value())
			}
			texts, at = append(texts, strings.TrimSpace(text)), append(at, r.at(node))
		}
		return texts, at, true
	case *ast.LiteralType:
		if all, is := v.Token.Value().(string); is {
			for text := range strings.SplitSeq(all, ",") {
				if text = strings.TrimSpace(text); text != "" {
					texts, at = append(texts, text), append(at, r.at(item))
				}
			}
			return texts, at, true
		}
	}
	return nil, nil, false
}

// listOf sets a list, each element read from its text. want says what an element is, as in: an
// serverURL such as "10.1.0.0".
func listOf[T any](r *report, into *[]T, want, example string, read func(text string) (T, bool)) setter {
	return func(item *ast.ObjectItem) {
		texts, at, ok := r.elements(item)
		if !ok {
			r.problem(r.at(item), "%s: want a list such as %s", label(item, 0), example)
			return
		}
		for i, text := range texts {
			one, ok := read(text)
			if !ok {
				r.problem(at[i], "%s: want %s, not %q", label(item, 0), want, text)
				continue
			}
			*into = append(*into, one)
		}
	}
}

// networks sets a list of addresses and networks.
func (r *report) networks(into *[]netip.Prefix) setter {
	return listOf(r, into, `an address or a network such as "10.1.0.0/16"`, `["127.0.0.1", "10.1.0.0/16"]`,
		wire.ParseNetwork)
}

// folders sets a list of folders of this machine, without the root. Text with commas is refused,
// because a path may contain commas.
func (r *report) folders(into *[]string) setter {
	const example = `["/var/log/keyturn"]`
	set := listOf(r, into, `a folder's absolute path, and not the root, such as "/var/log/keyturn"`,
		example, func(text string) (string, bool) {
			path := filepath.Clean(text)
			return path, filepath.IsAbs(path) && path != filepath.Dir(path)
		})
	return func(item *ast.ObjectItem) {
		if _, ok := item.Val.(*ast.ListType); !ok {
			r.problem(r.at(item), "%s: want a list such as %s", label(item, 0), example)
			return
		}
		set(item)
	}
}

// template sets an address, which may be a template of go-sockaddr.
func (r *report) template(into *string) setter {
	return then(r.text(into), func(item *ast.ObjectItem) {
		if !strings.Contains(*into, "{{") {
			return
		}
		text, err := template.Parse(*into)
		switch {
		case err != nil:
			r.problem(r.at(item), "%s: the template %q: %v", label(item, 0), *into, err)
		case text == "" || strings.ContainsAny(text, " \t\n"):
			r.problem(r.at(item), "%s: the template %q gives %q; write one that gives one address", label(item, 0),
				*into, text)
		default:
			*into = text
		}
	})
}

// serverURL sets a URL of this server.
func (r *report) serverURL(into *string) setter {
	return then(r.template(into), func(item *ast.ObjectItem) {
		text, _, _ := r.literal(item)
		switch {
		case ServerURL(*into):
		case text != *into && !strings.Contains(*into, "@"):
			r.problem(r.at(item),
				"%s: the template gives %q; write one that gives a URL such as \"https://keyturn.example.org:8200\"",
				label(item, 0), *into)
		default:
			r.problem(r.at(item), "%s: want a URL such as \"https://keyturn.example.org:8200\"", label(item, 0))
		}
	})
}

// ServerURL reports whether text is a URL of a server's API.
func ServerURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil &&
		(u.Port() == "" || isPort(u.Port()))
}

// isPort reports whether text is a port to listen at. 0 is any free port.
func isPort(text string) bool {
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}
