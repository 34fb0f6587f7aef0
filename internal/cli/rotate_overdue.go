package cli

import (
	"cmp"
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/internal/rotate"
)

func rotateOverdue() *command {
	var mount, after string
	var limit int
	var untracked bool
	return &command{
		name: "overdue", short: "Show which secrets are late", fields: true, colors: true,
		long: "Shows the secrets whose rotation is late, the latest first, and then those whose\ndates cannot be " +
			"judged: everything that rotates on this server, and the secrets of\nevery versioned key-value mount, " +
			"whoever rotates them. Dates are the fields\nrotated_at and next_rotation of a secret, or of its custom " +
			"metadata, which may also\nhave a rotation_period, or a class: financial (30 days), standard (60 days), " +
			"or\nlow-risk (90 days).\n\nExits with 0 if no secret is late, and with 2 if a secret is late or cannot " +
			"be\njudged. An error of the server also exits with 2.",
		examples: []example{
			{"Show what is late:", "keyturn rotate overdue"},
			{"Show the secrets without any date or class:", "keyturn rotate overdue -untracked"},
		},
		flags: func(f *flags) {
			rotationFlag(f, &mount)
			f.Bool(&untracked, "untracked", "list the secrets without any date or class instead; exits with 0")
			f.Int(&limit, "limit", "how many secrets to show at most; 100 by default, 1000 at most")
			f.String(&after, "after", "cursor", "show the page after the one that printed this cursor")
		},
		run: func(ctx context.Context, s *session) error {
			at, err := folder(mount)
			if err != nil {
				return err
			}
			path, params := at.below("compliance"), url.Values{}
			if limit != 0 {
				params.Set("limit", strconv.Itoa(limit))
			}
			if untracked {
				params.Set("untracked", "true")
			}
			if after != "" {
				params.Set("after", after)
			}
			var sec *api.Secret
			var secrets []any
			for { // a page may hold nothing that the caller may see, and be followed by others
				sec, err = s.read(ctx, call{op: "read", path: path, params: params, doing: "reading " + string(path)})
				if err != nil {
					return rotationHint(ctx, s, err, mount, "")
				}
				secrets, _ = sec.Data["secrets"].([]any)
				next := text(sec.Data["next"])
				if len(secrets) > 0 || next == "" || next == params.Get("after") {
					break
				}
				params.Set("after", next)
			}
			if sec.WrapInfo != nil || s.out.field != "" || s.out.format != "table" {
				err = s.out.show(sec)
			} else {
				err = s.showOverdue(sec, secrets, untracked)
			}
			indexing, _ := sec.Data["indexing"].([]any)
			switch {
			case err != nil || untracked:
				return err
			case len(secrets) == 0 && len(indexing) > 0:
				return refuse(exitRemote, "What is late is not known yet: some mounts are still being indexed. Try "+
					"again in a minute.")
			case len(secrets) == 0:
				return nil
			}
			more := text(sec.Data["next"]) != ""
			return refuse(exitRemote, "%s late or cannot be judged.", countOf(len(secrets), more))
		},
	}
}

// countOf words a number of secrets, and whether there are more.
func countOf(n int, more bool) string {
	switch {
	case more:
		return strconv.Itoa(n) + " secrets and more are"
	case n == 1:
		return "1 secret is"
	}
	return strconv.Itoa(n) + " secrets are"
}

// showOverdue prints one line for each secret.
func (s *session) showOverdue(sec *api.Secret, secrets []any, untracked bool) error {
	s.out.warn(sec.Warnings)
	now := time.Now()
	var rows [][]string
	colors := []color{plain, plain} // of the header
	for _, secret := range secrets {
		data, _ := secret.(map[string]any)
		late := "-"
		if n, err := strconv.ParseInt(text(data["late_seconds"]), 10, 64); err == nil && n > 0 {
			late = rotate.Rough(time.Duration(n) * time.Second)
		}
		colors = append(colors, red)
		rows = append(rows, []string{text(data["path"]), cmp.Or(text(data["class"]), "-"), late,
			relative(data["last_rotated"], now), relative(data["deadline"], now),
			cmp.Or(oneLine(text(data["finding"])), "-")})
	}
	header := []string{"Path", "Class", "Late By", "Rotated", "Deadline", "Finding"}
	if untracked {
		header = header[:1]
		for i := range rows {
			rows[i] = rows[i][:1]
		}
	}
	shown := table(header, rows)
	switch {
	case len(rows) == 0 && untracked:
		shown = "Every secret is tracked.\n"
	case len(rows) == 0:
		shown = "Nothing is late.\n"
	case !untracked && useColor(s):
		shown = paint(lines(shown), colors)
	}
	if err := s.out.write(shown); err != nil {
		return err
	}
	if next := text(sec.Data["next"]); next != "" {
		if err := s.out.say("\nThere may be more: add -after=%s", next); err != nil {
			return err
		}
	}
	if n := text(sec.Data["untracked"]); !untracked && n != "0" && n != "" {
		if sec.Data["untracked_more"] == true {
			n += " or more"
		}
		return s.out.say("\nSecrets without any date or class: %s (add -untracked to list them)", n)
	}
	return nil
}
