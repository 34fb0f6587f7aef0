package database

import (
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/username"
)

// Parts of a user's name: v-<display>-<role>-<marker><random>-<unix>. The marker tells
// users of this installation from those of another in the same database.
const (
	randomLen  = 16
	displayMax = 8
	roleMax    = 20
)

// A naming has what a user's name is generated from.
type naming struct {
	installation, display, role string
	longest                     int
	now                         time.Time
}

// generate generates a new user's name by a template; without one, the default name.
func (n naming) generate(text string) (string, error) {
	n.display, n.role = username.Clean(n.display), username.Clean(n.role)
	if n.longest <= 0 || n.longest > 63 {
		n.longest = 63
	}
	if text == "" {
		return n.defaultName(), nil
	}
	maker := username.Maker{Installation: n.installation, Now: n.now,
		Fields: map[string]string{"DisplayName": n.display, "RoleName": n.role}}
	name, err := maker.Make(text)
	if err != nil {
		return "", err
	}
	switch {
	case !ValidName(name):
		return "", invalid(
			"field \"username_template\": it produced %q, and a user's name must be 1 to 63 of A-Z a-z 0-9 . _ -",
			clip(name))
	case len(name) > n.longest:
		return "", invalid(
			"field \"username_template\": it produced %q of %d bytes, and the database allows %d; use truncate", name,
			len(name), n.longest)
	}
	return name, nil
}

// fromTemplate generates a name by the template of a field. Errors name that field.
func (n naming) fromTemplate(field, text string) (string, error) {
	name, err := n.generate(text)
	if err == nil || field == "username_template" {
		return name, err
	}
	return "", &fault.Error{Op: "database.name", Kind: fault.KindOf(err), Err: err,
		Msg: strings.ReplaceAll(fault.Message(err), "username_template", field)}
}

// defaultName shortens the display name first, then the role, then the random part.
func (n naming) defaultName() string {
	longest := n.longest
	var tail string
	switch {
	case longest >= 45:
		tail = username.Random(n.installation, username.MarkLen+randomLen) + "-" + strconv.FormatInt(n.now.Unix(), 10)
	case longest >= 24:
		tail = username.Random(n.installation, username.MarkLen+randomLen-4)
	default:
		return ("v-" + username.Random(n.installation, max(longest-2, 1)))[:longest] // no room for more
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

// checkTemplate tests the template of a field, and warns if it generates the same name twice.
func checkTemplate(r *route.Request, field, text string, longest int) error {
	n := naming{installation: "sample", display: "token", role: "role", longest: longest, now: time.Now()}
	name, err := n.fromTemplate(field, text)
	if err == nil && n.repeats(text) {
		r.Warn(username.Repeats, field, name)
	}
	return err
}

// repeats reports whether a template generates the same name twice.
func (n naming) repeats(text string) bool {
	if text == "" {
		return false
	}
	one, err1 := n.generate(text)
	two, err2 := n.generate(text)
	return err1 == nil && err2 == nil && one == two
}
