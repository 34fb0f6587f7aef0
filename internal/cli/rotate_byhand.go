package cli

import (
	"context"
	"maps"
	"slices"
	"strings"
)

func rotateSupply() *command {
	var mount string
	return &command{
		name: "supply", short: "Supply the new key that a person has created",
		args: "NAME key_id=ID K=V ...", min: 3, max: -1, fields: true,
		long: "Gives a rotation of the style manual the key that a person has created at the provider.\nThe key is " +
			"verified first: one that the provider refuses changes nothing. Read secrets\nfrom a file " +
			"(api_key=@new.txt) or from standard input (api_key=-), so that they do not\nappear in the shell's " +
			"history.",
		examples: []example{{"Supply a key whose secret is in a file:",
			"keyturn rotate supply xero key_id=7f3 api_key=@new.txt"}},
		flags: func(f *flags) { rotationFlag(f, &mount) },
		run: func(ctx context.Context, s *session) error {
			path, err := keyPath(mount, s.args[0])
			if err != nil {
				return err
			}
			data, err := parseData(s.env.Stdin, s.args[1:])
			if err != nil {
				return err
			}
			key := map[string]any{}
			for name, v := range data {
				if text, ok := v.(string); ok {
					v = strings.TrimRight(text, "\r\n") // what an editor adds to the end of a file
				}
				key[name] = v
			}
			body := map[string]any{"key_id": key["key_id"]}
			delete(key, "key_id")
			body["key"] = key
			err = s.change(ctx, call{
				op: "update", path: path.below("supply"), body: body,
				doing:   "supplying " + strings.Join(slices.Sorted(maps.Keys(key)), ", "),
				success: "Success! The rotation goes on with the supplied key: " + s.args[0],
			})
			return rotationHint(ctx, s, err, mount, s.args[0])
		},
	}
}

func rotateConfirm() *command {
	var mount string
	return &command{
		name: "confirm", short: "Confirm that the old key was deleted at the provider",
		args: "NAME", min: 1, max: 1, fields: true,
		long: "Confirms that a person has deleted the old key of a rotation at the provider. This is\nonly needed " +
			"if the old key cannot be tried; otherwise the rotation ends by itself.",
		examples: []example{{"Confirm it:", "keyturn rotate confirm xero"}},
		flags:    func(f *flags) { rotationFlag(f, &mount) },
		run: func(ctx context.Context, s *session) error {
			path, err := keyPath(mount, s.args[0])
			if err != nil {
				return err
			}
			err = s.change(ctx, call{
				op: "update", path: path.below("confirm"), doing: "confirming the deletion",
				success: "Success! Confirmed that the old key was deleted: " + s.args[0],
			})
			return rotationHint(ctx, s, err, mount, s.args[0])
		},
	}
}
