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
		long: "Shows every credential that rotates on this server, under any engine; those that need\nattention " +
			"come first. With a name, shows one key: the present step and what it waits\nfor, the current key, and " +
			"the times of the last and the next rotation.",
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
				return showStatuses(ctx, s, mount, at, failing, overdue)
			}
			path, err := keyPath(mount, s.args[0])
			if err != nil {
				return err
			}
			if watch {
				return follow(ctx, s, mount, path, func(map[string]any) (bool, error) { return false, nil })
			}
			sec, err := s.readKey(ctx, mount, path)
			if err != nil {
				return err
			}
			return s.showStatus(sec)
		},
	}
}

// showStatuses prints one line for each credential that rotates.
func showStatuses(ctx context.Context, s *session, mount string, at target, failing, overdue bool) error {
	path, keys := at.below("status"), at.below("keys")
	params := url.Values{}
	if failing {
		params.Set("failing", "true")
	}
	if overdue {
		params.Set("overdue", "true")
	}
	sec, err := s.read(ctx, call{op: "read", path: path, params: params, doing: "reading " + string(path)})
	switch {
	case err != nil:
		return rotationHint(ctx, s, err, mount, "")
	case sec.WrapInfo != nil || s.out.field != "" || s.out.format != "table":
		return s.out.show(sec)
	}
	s.out.warn(sec.Warnings)
	records, _ := sec.Data["records"].([]any)
	if len(records) == 0 {
		if failing || overdue {
			return s.out.say("Nothing needs attention.")
		}
		return rotationHint(ctx, s, notFoundAt("%s", keys), mount, "")
	}
	now := time.Now()
	var rows [][]string
	colors := []color{plain, plain} // of the header
	for _, r := range records {
		if data, ok := r.(map[string]any); ok {
			colors = append(colors, colorOf(data))
			rows = append(rows, []string{
				text(data["path"]), stateOf(data), cmp.Or(text(data["current_key_id"]), "-"),
				relative(data["last_rotated"], now), relative(data["next_rotation"], now), troubleOf(data, now),
			})
		}
	}
	shown := table([]string{"Path", "State", "Current Key ID", "Rotated", "Next Rotation", "Trouble"}, rows)
	if useColor(s) {
		shown = paint(lines(shown), colors)
	}
	return s.out.write(shown)
}

// colorOf returns the colour of a record: red if it needs attention, yellow if it waits or is
// paused.
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

// stateOf returns the state of a record, and whether it is paused.
func stateOf(data map[string]any) string {
	state := text(data["state"])
	if text(data["pause_reason"]) != "" {
		return strings.TrimPrefix(state+", paused", "scheduled, ")
	}
	return state
}

// troubleOf returns what needs attention, on one line.
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

// relative returns the distance of a time of the API from now; "-" if there is no time.
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

// showStatus prints the status of one key: first a sentence, then the fields that are not empty.
func (s *session) showStatus(sec *api.Secret) error {
	if s.out.field != "" || s.out.format != "table" || sec.WrapInfo != nil {
		return s.out.show(sec)
	}
	now := time.Now()
	summary, c := text(sec.Data["summary"]), colorOf(sec.Data)
	sec.Data = withoutEmpty(sec.Data)
	delete(sec.Data, "summary")
	for _, name := range []string{"failures", "attempts", "overdue_seconds"} { // zero says nothing
		if text(sec.Data[name]) == "0" {
			delete(sec.Data, name)
		}
	}
	for name, v := range sec.Data {
		switch name {
		case "last_rotated", "next_rotation", "next_step", "retire_after", "alert_since":
			sec.Data[name] = toSecond(v) + " (" + relative(v, now) + ")"
		}
	}
	summary = wrap(printable(sentence(summary)), 78) + "\n"
	if useColor(s) {
		summary = paint(lines(summary), slices.Repeat([]color{c}, strings.Count(summary, "\n")))
	}
	if err := s.out.write(summary + "\n"); err != nil {
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

// followEvery is the time between two reads of a key that -watch or -wait follows.
const followEvery = time.Second

// follow prints the summary of a key each time its progress changes, until done returns true.
func follow(ctx context.Context, s *session, mount string, path target,
	done func(data map[string]any) (bool, error)) error {
	shown := ""
	for {
		sec, err := s.readKey(ctx, mount, path)
		if err != nil {
			return err
		}
		if p := progress(sec.Data); p != shown {
			shown = p
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

// progress returns the fields whose change follow prints. The remaining time is not among them.
func progress(data map[string]any) string {
	var values []string
	for _, name := range []string{"rotation", "state", "current_key_id", "pending_key_id", "alert", "paused"} {
		values = append(values, text(data[name]))
	}
	return strings.Join(values, " ")
}

// waitPublished follows a rotation until its new key is published.
func waitPublished(ctx context.Context, s *session, mount string, path target) error {
	return follow(ctx, s, mount, path, func(data map[string]any) (bool, error) {
		state := text(data["state"])
		switch {
		case data["paused"] == true, state == "scheduled" && text(data["failures"]) != "0":
			return true,
				refuse(exitRemote, "The rotation has failed, and the old key stays current: %s",
					text(data["last_error"]))
		case text(data["rolled_back_because"]) != "":
			return true,
				refuse(exitRemote, "The rotation is rolled back, and the old key stays current: %s",
					text(data["rolled_back_because"]))
		case state == "grace", state == "retiring", state == "scheduled":
			return true, s.out.say("Success! The new key is published: %s", text(data["current_key_id"]))
		}
		return false, nil
	})
}
