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
		name: "history", short: "Show the rotations of a key", args: "NAME [NUMBER]", min: 1, max: 2, fields: true,
		long: "Shows the rotations of a key, newest first: the result of each, how its new key was\nverified, and how its old key was verified to be dead. With the number of a rotation,\nshows everything that is recorded about it; with -v, also the requests to the\nprovider and its replies, without secrets.",
		examples: []example{
			{"Show the rotations of a key:", "keyturn rotate history stripe"},
			{"Show one of them, with its states and errors:", "keyturn rotate history stripe 12"},
			{"Show what the provider replied:", "keyturn rotate history -v stripe 12"},
		},
		flags: func(f *flags) {
			rotationFlag(f, &mount)
			f.Bool(&verbose, "v", "show the requests to the provider and its replies; needs a NUMBER")
		},
		run: func(ctx context.Context, s *session) error {
			if verbose && len(s.args) < 2 {
				return usagef("-v shows the replies of one rotation; give its number")
			}
			key, err := keyPath(mount, s.args[0])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			path := key.below("history")
			if verbose {
				return showReplies(ctx, s, client, mount, path, s.args[1])
			}
			if len(s.args) == 2 {
				return showTurn(ctx, s, client, mount, path, s.args[1])
			}
			if s.out.format != "table" || s.out.field != "" {
				return s.showKey(ctx, client, mount, path)
			}
			sec, err := s.readKey(ctx, client, mount, path)
			if err != nil {
				return err
			}
			if sec.WrapInfo != nil {
				return s.out.show(sec)
			}
			return s.out.write(historyTable(turnsOf(sec)))
		},
	}
}

// turnsOf are the turns in an answer.
func turnsOf(sec *api.Secret) []map[string]any {
	list, _ := sec.Data["turns"].([]any)
	var turns []map[string]any
	for _, item := range list {
		if turn, ok := item.(map[string]any); ok {
			turns = append(turns, turn)
		}
	}
	return turns
}

func historyTable(turns []map[string]any) string {
	header := []string{"Rotation", "Result", "Reason", "Started", "Published", "Retired", "Key ID", "Proof", "Old Key", "Note"}
	var rows [][]string
	for _, t := range turns {
		reason := text(t["reason"])
		if by := text(t["by"]); by != "" {
			reason += ", " + by
		}
		rows = append(rows, []string{text(t["turn"]), text(t["result"]), oneLine(reason), toSecond(t["started"]), toSecond(t["published"]),
			toSecond(t["retired"]), text(t["key_id"]), text(t["proof"]), text(t["dead_proof"]), oneLine(turnNote(t))})
	}
	return table(header, rows)
}

// turnNote is why a turn went back, or what is wrong with it now. What was wrong in a state that it has left behind is counted alone:
// it has gone on since.
func turnNote(turn map[string]any) string {
	if why := text(turn["rolled_back_because"]); why != "" {
		return why
	}
	list, _ := turn["errors"].([]any)
	if len(list) == 0 {
		return ""
	}
	last, _ := list[len(list)-1].(map[string]any)
	switch state := text(turn["result"]); {
	case state == "failed", state == text(last["state"]):
		return text(last["text"])
	case len(list) == 1:
		return "went on after 1 error"
	}
	return fmt.Sprintf("went on after %d errors", len(list))
}

// toSecond is a time of the API without the fraction of its second.
func toSecond(v any) string {
	at, err := time.Parse(time.RFC3339Nano, text(v))
	if err != nil {
		return text(v)
	}
	return at.Format(time.RFC3339)
}

// showTurn prints one turn.
func showTurn(ctx context.Context, s *session, client *client, mount string, path target, number string) error {
	sec, err := s.readKey(ctx, client, mount, path)
	if err != nil {
		return err
	}
	if sec.WrapInfo != nil {
		return s.out.show(sec)
	}
	for _, t := range turnsOf(sec) {
		if fmt.Sprint(t["turn"]) == number {
			if sec.Data = t; s.out.format == "table" && s.out.field == "" {
				sec.Data = withoutEmpty(t)
			}
			return s.out.showTree(sec)
		}
	}
	return refusal{exitRemote, fmt.Sprintf("No rotation %s in the history of %s", number, s.args[0])}
}

// showReplies prints one turn with its requests to the provider.
func showReplies(ctx context.Context, s *session, client *client, mount string, path target, number string) error {
	sec, err := client.read(ctx, path, url.Values{"turn": {number}, "steps": {"true"}})
	switch {
	case notThere(err) || err == nil && sec == nil:
		return refusal{exitRemote, fmt.Sprintf("No rotation %s in the history of %s", number, s.args[0])}
	case err != nil:
		return rotationHint(ctx, s, remote(err, "reading %s", path), mount, s.args[0])
	case sec.WrapInfo != nil || s.out.format != "table" || s.out.field != "":
		return s.out.show(sec)
	}
	steps := sec.Data["steps"]
	for _, t := range turnsOf(sec) {
		sec.Data = withoutEmpty(t)
	}
	if err := s.out.showTree(sec); err != nil {
		return err
	}
	b, err := json.Marshal(steps)
	if err != nil {
		return local(err, "reading the answer")
	}
	var rows []struct { // of a journal's row no more than that: its other times may be empty
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
	return s.out.write("\n" + section("requests to the provider", harmless(out.String())))
}
