package database

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// applySettings changes the kind's own settings of c by a write, and warns of unknown parameters.
func (in *configIn) applySettings(r *route.Request, p *Provider, c *connection) error {
	c.Extra, c.Hidden = maps.Clone(c.Extra), maps.Clone(c.Hidden) // because the stored connection shares the maps
	for _, name := range slices.Sorted(maps.Keys(in.Rest)) {
		raw := in.Rest[name]
		i := slices.IndexFunc(p.Settings, func(s Setting) bool { return s.Name == name })
		if i < 0 {
			r.Warn("unknown parameter %q was ignored", name)
			continue
		}
		s := p.Settings[i]
		text, ok := scalarText(raw)
		switch { // like wire.Decode
		case raw.IsNull():
			text, ok = "", true
		case ok && text == "" && (s.Form == Flag || s.Form == Number):
			continue
		}
		if err := c.setSetting(s, text, ok); err != nil {
			return err
		}
	}
	return nil
}

// setSetting stores the value of a setting, or removes it if it is the zero value of its form.
// ok: the value was a string, a number or a boolean.
func (c *connection) setSetting(s Setting, text string, ok bool) error {
	switch s.Form {
	case Flag:
		on, err := strconv.ParseBool(strings.ToLower(text))
		if !ok || err != nil && text != "" {
			return invalid("field %q: want true or false", s.Name)
		}
		if text = ""; on {
			text = "true"
		}
	case Number:
		n, err := strconv.ParseInt(text, 10, 64)
		if !ok || err != nil && text != "" {
			return invalid("field %q: want a whole number", s.Name)
		}
		if text = ""; n != 0 {
			text = strconv.FormatInt(n, 10)
		}
	case Text, Secret:
		if !ok {
			return invalid("field %q: want a string", s.Name)
		}
	}
	if s.Form == Secret {
		setOrDelete(&c.Hidden, s.Name, secret.Text(text), text == "")
	} else {
		setOrDelete(&c.Extra, s.Name, text, text == "")
	}
	return nil
}

func setOrDelete[V any](m *map[string]V, name string, v V, zero bool) {
	if zero {
		delete(*m, name)
		return
	}
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[name] = v
}

// scalarText is the text of a string, number or boolean.
func scalarText(raw wire.Raw) (string, bool) {
	text := strings.TrimSpace(string(raw.Reveal()))
	if text == "" || strings.ContainsRune("[{", rune(text[0])) {
		return "", false
	}
	if text[0] != '"' {
		return text, true
	}
	var s string
	return s, len(text) <= wire.MaxFieldBytes && json.Unmarshal([]byte(text), &s) == nil
}

// connectionDetails is the connection_details of an answer.
func connectionDetails(p *Provider, c *connection) map[string]any {
	a := c.Access
	d := map[string]any{"username": c.Username}
	if !c.URL.Empty() {
		d["connection_url"] = p.Display(c.URL)
	}
	for name, v := range map[string]string{
		"username_template": c.Template, "password_authentication": a.Auth, "tls_ca": a.CA, "tls_certificate": a.Cert,
	} {
		if v != "" {
			d[name] = v
		}
	}
	for name, n := range map[string]int{"max_open_connections": a.MaxOpen, "max_idle_connections": a.MaxIdle} {
		if n != 0 {
			d[name] = n
		}
	}
	if a.Lifetime > 0 {
		d["max_connection_lifetime"] = a.Lifetime.String()
	}
	for name, on := range map[string]bool{"disable_escaping": a.NoEscape, "terminate_sessions": c.Terminate,
		"self_managed": c.Self} {
		if on {
			d[name] = true
		}
	}
	for _, s := range p.Settings {
		v, given := c.Extra[s.Name]
		switch {
		case !given:
		case s.Form == Flag:
			d[s.Name] = true
		case s.Form == Number:
			n, _ := strconv.ParseInt(v, 10, 64) // setSetting wrote it
			d[s.Name] = n
		default:
			d[s.Name] = v
		}
	}
	return d
}
