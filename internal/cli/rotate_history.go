package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/internal/rotate"
)

func rotateHistory() *command {
	var mount string
	var verbose bool
	return &command{
		name: "history", short: "Show the rotations of a key or another credential",
		args: "NAME [NUMBER]", min: 1, max: 2, fields: true,
		long: "Shows the rotations of a key, newest first: the result of each, how its new key was\nverified, and " +
			"how its old key was verified to be dead. With the number of a rotation,\nshows everything that is " +
			"recorded about it; with -v, also the requests to the\nprovider and its replies, without secrets. " +
			"NAME is the name of a key, or the path of\nany credential that rotates, as rotate status prints it.",
		examples: []example{
			{"Show the rotations of a key:", "keyturn rotate history stripe"},
			{"Show one of them, with its states and errors:", "keyturn rotate history stripe 12"},
			{"Show what the provider replied:", "keyturn rotate history -v stripe 12"},
			{"Show the rotations of a database user's password:", "keyturn rotate history database/static-roles/app"},
		},
		flags: func(f *flags) {
			rotationFlag(f, &mount)
			f.Bool(&verbose, "v", "show the requests to the provider and its replies; needs a NUMBER")
		},
		run: func(ctx context.Context, s *session) error {
			if verbose && len(s.args) < 2 {
				return usagef("-v shows the replies of one rotation; give its number")
			}
			rotating, err := rotatingPath(s, mount, s.args[0])
			if err != nil {
				return err
			}
			path := rotating.below("history")
			if verbose {
				return showReplies(ctx, s, mount, path, s.args[1])
			}
			if len(s.args) == 2 {
				return showRotation(ctx, s, mount, path, s.args[1])
			}
			if s.out.format != "table" || s.out.field != "" {
				return s.showKey(ctx, mount, path)
			}
			sec, err := s.readKey(ctx, mount, path)
			if err != nil {
				return err
			}
			if sec.WrapInfo != nil {
				return s.out.show(sec)
			}
			return s.out.write(historyTable(rotationsOf(sec)))
		},
	}
}

// rotatingPath is where something that rotates is, by its path, or by the name of a key.
func rotatingPath(s *session, mount, name string) (target, error) {
	if !strings.Contains(name, "/") { // no name of a key has one
		return keyPath(mount, name)
	}
	if s.flags.given("mount") {
		return "", usagef(
			"%s is a full path, as rotate status prints it; leave -mount out, or give the name of a key alone", name)
	}
	return exact(name)
}

// rotationsOf returns the rotations in an answer.
func rotationsOf(sec *api.Secret) []map[string]any {
	list, _ := sec.Data["rotations"].([]any)
	var rotations []map[string]any
	for _, item := range list {
		if rotation, ok := item.(map[string]any); ok {
			rotations = append(rotations, rotation)
		}
	}
	return rotations
}

func historyTable(rotations []map[string]any) string {
	header := []string{"Rotation", "Result", "Reason", "Started", "Published", "Retired", "Key ID", "Proof", "Old Key",
		"Note"}
	var rows [][]string
	for _, r := range rotations {
		reason := text(r["reason"])
		if by := text(r["by"]); by != "" {
			reason += ", " + by
		}
		rows = append(rows, []string{
			text(r["rotation"]), text(r["result"]), oneLine(reason),
			toSecond(r["started"]), toSecond(r["published"]), toSecond(r["retired"]),
			text(r["key_id"]), text(r["proof"]), text(r["dead_proof"]), oneLine(rotationNote(r)),
		})
	}
	return table(header, rows)
}

// rotationNote says why a rotation was rolled back, or what its current error is. Errors of a
// state that the rotation has left are only counted, because they no longer matter.
func rotationNote(rotation map[string]any) string {
	if why := text(rotation["rolled_back_because"]); why != "" {
		return why
	}
	list, _ := rotation["errors"].([]any)
	if len(list) == 0 {
		return ""
	}
	last, _ := list[len(list)-1].(map[string]any)
	switch state := text(rotation["result"]); {
	case state == "failed", state == text(last["state"]):
		return text(last["text"])
	case len(list) == 1:
		return "went on after 1 error"
	}
	return fmt.Sprintf("went on after %d errors", len(list))
}

// toSecond returns a time of the API without the fraction of a second.
func toSecond(v any) string {
	at, err := time.Parse(time.RFC3339Nano, text(v))
	if err != nil {
		return text(v)
	}
	return at.Format(time.RFC3339)
}

// showRotation prints one rotation.
func showRotation(ctx context.Context, s *session, mount string, path target, number string) error {
	sec, err := s.readKey(ctx, mount, path)
	if err != nil {
		return err
	}
	if sec.WrapInfo != nil {
		return s.out.show(sec)
	}
	for _, t := range rotationsOf(sec) {
		if fmt.Sprint(t["rotation"]) == number {
			if sec.Data = t; s.out.format == "table" && s.out.field == "" {
				sec.Data = withoutEmpty(t)
			}
			return s.out.showTree(sec)
		}
	}
	return refuse(exitRemote, "No rotation %s in the history of %s", number, s.args[0])
}

// showReplies prints one rotation with its requests to the provider.
func showReplies(ctx context.Context, s *session, mount string, path target, number string) error {
	sec, err := s.read(ctx, call{
		op: "read", path: path, doing: "reading " + string(path),
		params: url.Values{"rotation": {number}, "steps": {"true"}},
	})
	switch {
	case isNotFound(err):
		return refuse(exitRemote, "No rotation %s in the history of %s", number, s.args[0])
	case err != nil:
		return rotationHint(ctx, s, err, mount, s.args[0])
	case sec.WrapInfo != nil || s.out.format != "table" || s.out.field != "":
		return s.out.show(sec)
	}
	steps := sec.Data["steps"]
	for _, t := range rotationsOf(sec) {
		sec.Data = withoutEmpty(t)
	}
	if err := s.out.showTree(sec); err != nil {
		return err
	}
	b, err := json.Marshal(steps)
	if err != nil {
		return local(err, "reading the answer")
	}
	var rows []struct { // only the requests, because other times in a row of the journal may be empty
		Requests []rotate.Exchange `json:"requests"`
	}
	if err := json.Unmarshal(b, &rows); err != nil {
		return local(err, "reading the answer")
	}
	var out strings.Builder
	for i := range rows {
		for _, x := range rows[i].Requests {
			fmt.Fprintf(&out, "%s %s\n", x.At.UTC().Format(time.RFC3339), x.Step)
			writeExchange(&out, x)
		}
	}
	if out.Len() == 0 {
		out.WriteString("None is kept.\n")
	}
	return s.out.write("\n" +
		section("requests to the provider", strings.TrimRight(printable(out.String()), "\n")+"\n"))
}
