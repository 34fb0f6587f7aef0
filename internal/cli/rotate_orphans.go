package cli

import "context"

func rotateOrphans() *command {
	var mount, confirm string
	return &command{
		name: "orphans", short: "Show keys at the provider that no record knows",
		args: "NAME", min: 1, max: 1, fields: true,
		long: "Lists the keys that the provider shows with a label of this server and that no record\nof the server " +
			"knows. Nothing is retired without -confirm, which names one of them.",
		examples: []example{
			{"Show them:", "keyturn rotate orphans stripe"},
			{"Retire one:", "keyturn rotate orphans -confirm=key_1 stripe"},
		},
		flags: func(f *flags) {
			rotationFlag(f, &mount)
			f.String(&confirm, "confirm", "id", "retire the orphan with this ID at the provider")
		},
		run: func(ctx context.Context, s *session) error {
			key, err := keyPath(mount, s.args[0])
			if err != nil {
				return err
			}
			path := key.below("orphans")
			if confirm == "" {
				return s.showKey(ctx, mount, path)
			}
			err = s.change(ctx, call{
				op: "update", path: path, body: map[string]any{"confirm": confirm}, doing: "retiring " + confirm,
				success: "Success! Retired the orphan: " + confirm,
			})
			return rotationHint(ctx, s, err, mount, s.args[0])
		},
	}
}
