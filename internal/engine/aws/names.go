package aws

import (
	"regexp"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/username"
)

// AWS's limits of names.
const (
	userMax    = 64
	sessionMax = 64
	federMax   = 32
)

// defaultTemplate is shown if there is no template. It generates the names of defaultName, except
// that defaultName shortens the display name and the role of a long name rather than the random
// part.
const defaultTemplate = `{{ if (eq .Type "STS") }}{{ printf "vault-%s-%s" (unix_time) (random 20) | truncate 32 }}{{ else }}` +
	`{{ printf "vault-%s-%s-%s" (printf "%s-%s" (.DisplayName) (.PolicyName) | truncate 42) (unix_time) (random 20) | truncate 64 }}{{ end }}`

var nameForm = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// A naming has what the name of a user or a session is generated from.
type naming struct {
	installation, display, role string
	kind                        string // "IAM" or "STS"
	longest                     int
	now                         time.Time
}

// generate generates a name by a template; without one: vault-<display>-<role>-<unix>-<random>.
func (n naming) generate(text string) (string, error) {
	n.display, n.role = username.Clean(n.display), username.Clean(n.role)
	if text == "" {
		return n.defaultName(), nil
	}
	name, err := username.Maker{Installation: n.installation, Now: n.now, Fields: map[string]string{
		"DisplayName": n.display, "PolicyName": n.role, "RoleName": n.role, "Type": n.kind,
	}}.Make(text)
	switch {
	case err != nil:
		return "", err
	case !nameForm.MatchString(name) || len(name) > n.longest:
		return "", invalid("field \"username_template\": it produced %q; AWS accepts 2 to "+
			"%d of A-Z a-z 0-9 _ + = , . @ -", clip(name), n.longest)
	}
	return name, nil
}

// defaultName shortens the display name first, then the role, then the random part.
func (n naming) defaultName() string {
	tail := strconv.FormatInt(n.now.Unix(), 10) + "-" + username.Random(n.installation, 20)
	if n.longest < userMax {
		return ("vault-" + tail)[:min(n.longest, len("vault-")+len(tail))]
	}
	left := n.longest - len("vault--") - len(tail)
	middle := n.role[:min(len(n.role), left)]
	if left -= len(middle) + 1; left >= 3 && n.display != "" {
		middle = n.display[:min(len(n.display), left)] + "-" + middle
	}
	return "vault-" + middle + "-" + tail
}

// checkName tests a template, and warns if it generates the same name twice.
func checkName(r *route.Request, text string) error {
	if text == "" {
		return nil
	}
	for _, kind := range []struct {
		name    string
		longest int
	}{{name: "IAM", longest: userMax}, {name: "STS", longest: federMax}} {
		n := naming{installation: "sample", display: "token", role: "role", kind: kind.name, longest: kind.longest,
			now: time.Now()}
		one, err := n.generate(text)
		if err != nil {
			if kind.name == "STS" {
				continue // the template may be only for users, because names of sessions are shorter
			}
			return err
		}
		if two, err := n.generate(text); err == nil && one == two {
			r.Warn(username.Repeats, "username_template", one)
			return nil
		}
	}
	return nil
}

// Forms of names of users, and of ARNs.
var (
	userForm = regexp.MustCompile(`^[\w+=,.@-]{1,64}$`)
	arnForm  = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}|aws):[^\x00-\x20]+$`)
	roleForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/`)
)

const (
	rotateWithin = 85 * time.Second
	drainWithin  = 10 * time.Second // waiting for what is being issued with the previous key
	retireWithin = 5 * time.Second  // waiting for one step of retiring the previous key
)

// Bounds and defaults of static roles.
const (
	minPeriod    = time.Minute
	longestGrace = 24 * time.Hour
	longestRest  = time.Hour
	longestRead  = 5 * time.Minute
)
