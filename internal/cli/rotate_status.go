package cli

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/internal/rotate"
)

func rotateStatus() *command {
	var mount string
	var failing, overdue, watch bool
	return &command{
		name: "status", short: "Show the state of rotations", args: "[NAME]", max: 1, fields: true, colors: true,
		long: "Shows every credential that rotates on this server, under any engine; those that need\nattention come first. With a name, shows one key: the present step and what it waits\nfor, the current key, and the times of the last and the next rotation.",
		examples: []example{
			{"Show everything that rotates:", "keyturn rotate status"},
			{"Show only those that need attention:", "keyturn rotate status -failing"},
			{"Show one key:", "keyturn rotate status stripe"},
			{"Follow one key:", "keyturn rotate status -watch stripe"},
		},
		flags: func(f *flags) {
			rotationFlag(f, &mount)
			f.Bool(&failing, "failing", "show only credentials that have an alert or whose rotation has failed")
			f.Bool(&overdue, "overdue", "show only credentials whose rotation is overdue")
			f.Bool(&watch, "watch", "keep showing a key's progress until interrupted; needs a NAME")
		},
		run: func(ctx context.Context, s *session) error {
			switch one := len(s.args) == 1; {
			case watch && !one:
				return usagef("-watch follows one key; give its name")
			case one && (failing || overdue):
				return usagef("-failing and -overdue choose among all keys; leave the name out")
			}
			at, err := folder(mount)
			if err != nil {
				return err
			}
			if len(s.args) == 0 {
				return s.showStatuses(ctx, mount, at, failing, overdue)
			}
			path, err := keyPath(mount, s.args[0])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			if watch {
				return follow(ctx, s, client, mount, path, func(map[string]any) (bool, error) { return false, nil })
			}
			sec, err := s.readKey(ctx, client, mount, path)
			if err != nil {
				return err
			}
			return s.showStatus(sec)
		},
	}
}

// showStatuses prints one line for each thing that rotates.
func (s *session) showStatuses(ctx context.Context, mount string, at target, failing, overdue bool) error {
	path, keys := at.below("status"), at.below("keys")
	client, err := s.connect()
	if err != nil {
		return err
	}
	params := url.Values{}
	if failing {
		params.Set("failing", "true")
	}
	if overdue {
		params.Set("overdue", "true")
	}
	sec, err := client.read(ctx, path, params)
	switch {
	case err != nil:
		return rotationHint(ctx, s, remote(err, "reading %s", path), mount, "")
	case sec == nil:
		return rotationHint(ctx, s, nothingAt("%s", path), mount, "")
	case sec.WrapInfo != nil || s.out.field != "" || s.out.format != "table":
		return s.out.show(sec)
	}
	s.out.warn(sec.Warnings)
	records, _ := sec.Data["records"].([]any)
	if len(records) == 0 {
		if failing || overdue {
			return s.out.say("Nothing needs attention.")
		}
		return rotationHint(ctx, s, nothingAt("%s", keys), mount, "")
	}
	now := time.Now()
	var rows [][]string
	colors := []color{plain, plain} // of the header
	for _, r := range records {
		if data, ok := r.(map[string]any); ok {
			colors = append(colors, colorOf(data))
			rows = append(rows, []string{text(data["path"]), stateOf(data), cmp.Or(text(data["current_key_id"]), "-"), relative(data["last_rotated"], now),
				relative(data["next_rotation"], now), troubleOf(data, now)})
		}
	}
	shown := table([]string{"Path", "State", "Current Key ID", "Rotated", "Next Rotation", "Trouble"}, rows)
	if colored(s) {
		shown = paint(lines(shown), colors)
	}
	return s.out.write(shown)
}

// colorOf is the colour of a record: trouble is red, what waits or is paused yellow.
func colorOf(data map[string]any) color {
	failed := func(name string) bool { n := text(data[name]); return n != "" && n != "0" }
	switch {
	case text(data["alert"]) != "", failed("overdue_seconds"), failed("failures"), failed("attempts"):
		return red
	case text(data["pause_reason"]) != "", text(data["state"]) != "scheduled":
		return yellow
	}
	return plain
}

// stateOf is a record's state in one word, or two.
func stateOf(data map[string]any) string {
	state := text(data["state"])
	if text(data["pause_reason"]) != "" {
		return strings.TrimPrefix(state+", paused", "scheduled, ")
	}
	return state
}

// troubleOf is what needs attention, in one line.
func troubleOf(data map[string]any, now time.Time) string {
	switch alert, reason := text(data["alert"]), text(data["pause_reason"]); {
	case alert != "":
		return oneLine(alert)
	case text(data["overdue_seconds"]) != "0" && text(data["overdue_seconds"]) != "":
		return "overdue"
	case reason != "":
		return oneLine("paused: " + reason)
	}
	return "-"
}

// relative words a time of the API by how far it is from now; "-" for none.
func relative(v any, now time.Time) string {
	at, err := time.Parse(time.RFC3339Nano, text(v))
	if err != nil {
		return "-"
	}
	d := at.Sub(now)
	if d.Abs() < time.Second {
		return "now"
	}
	if d < 0 {
		return rotate.Rough(-d) + " ago"
	}
	return "in " + rotate.Rough(d)
}

// showStatus prints where one key stands: a sentence first, then what is set.
func (s *session) showStatus(sec *api.Secret) error {
	if s.out.field != "" || s.out.format != "table" || sec.WrapInfo != nil {
		return s.out.show(sec)
	}
	now := time.Now()
	summary, summed := text(sec.Data["summary"]), sec.Data
	sec.Data = withoutEmpty(sec.Data)
	delete(sec.Data, "summary")
	for _, name := range []string{"failures", "attempts", "overdue_seconds"} { // none, or none any more
		if text(sec.Data[name]) == "0" {
			delete(sec.Data, name)
		}
	}
	for name, v := range sec.Data {
		switch {
		case name == "last_rotated", name == "next_rotation", name == "next_step", name == "retire_after", name == "alert_since":
			sec.Data[name] = toSecond(v) + " (" + relative(v, now) + ")"
		}
	}
	said := wrap(harmless(sentence(summary)), 78) + "\n"
	if c := colorOf(summed); colored(s) {
		said = paint(lines(said), slices.Repeat([]color{c}, strings.Count(said, "\n")))
	}
	if err := s.out.write(said + "\n"); err != nil {
		return err
	}
	return s.out.showTree(sec)
}

// sentence begins a text with a capital letter and ends it with a full stop.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// followEvery is how often a key is looked at that somebody follows.
const followEvery = time.Second

// follow prints where a key stands each time that this changes, until done says so.
func follow(ctx context.Context, s *session, client *client, mount string, path target, done func(data map[string]any) (bool, error)) error {
	shown := ""
	for {
		sec, err := s.readKey(ctx, client, mount, path)
		if err != nil {
			return err
		}
		if now := step(sec.Data); now != shown {
			shown = now
			if err := s.out.say("%s", sentence(text(sec.Data["summary"]))); err != nil {
				return err
			}
		}
		if ended, err := done(sec.Data); ended || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followEvery):
		}
	}
}

// step is what must change for a key to be shown again: not the time that is left.
func step(data map[string]any) string {
	return strings.Join([]string{text(data["turn"]), text(data["state"]), text(data["current_key_id"]), text(data["pending_key_id"]), text(data["alert"]), text(data["paused"])}, " ")
}

// waitPublished follows a rotation that was begun until its new key is published.
func waitPublished(ctx context.Context, s *session, client *client, mount string, path target) error {
	return follow(ctx, s, client, mount, path, func(data map[string]any) (bool, error) {
		state := text(data["state"])
		switch {
		case data["paused"] == true, state == "scheduled" && text(data["failures"]) != "0":
			return true, refusal{exitRemote, "The rotation has failed, and the old key stays current: " + text(data["last_error"])}
		case text(data["rolled_back_because"]) != "":
			return true, refusal{exitRemote, "The rotation is rolled back, and the old key stays current: " + text(data["rolled_back_because"])}
		case state == "grace", state == "retiring", state == "scheduled":
			return true, s.out.say("Success! The new key is published: %s", text(data["current_key_id"]))
		}
		return false, nil
	})
}
