package cli

import (
	"context"
)

// enableCommand is "secrets enable" and "auth enable".
func enableCommand(k mountKind, examples []example) *command {
	var m mountFlags
	return &command{
		name: "enable", short: "Enable a " + k.what, args: "TYPE", min: 1, max: 1,
		long:     "Enables a " + k.what + " at a path.",
		examples: examples,
		flags:    m.declareEnable,
		run: func(ctx context.Context, s *session) error {
			kind := s.args[0]
			path, err := m.where(kind)
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			sec, err := client.write(ctx, k.api.below(path), m.enableBody(kind, s.flags))
			if err != nil {
				return remote(err, "enabling the %s %s at %s/", kind, k.what, path)
			}
			return s.out.done(sec, k.enabled, kind, path)
		},
	}
}

// where is the path to mount at: the one given, or the type's name.
func (m *mountFlags) where(kind string) (target, error) {
	switch {
	case m.path != "":
		return folder(m.path)
	case kind == "plugin":
		return folder(m.plugin)
	}
	return folder(kind)
}

// enableBody is what to mount.
func (m *mountFlags) enableBody(kind string, f *flags) map[string]any {
	config := m.config(f)
	if m.noCache {
		config["force_no_cache"] = true
	}
	body := map[string]any{"type": kind, "description": m.description, "config": config,
		"local": m.local, "seal_wrap": m.sealWrap, "options": m.allOptions(f)}
	if m.entropy {
		body["external_entropy_access"] = true
	}
	if m.plugin != "" {
		body["type"] = m.plugin
	}
	return body
}

// tuneCommand is "secrets tune" and "auth tune".
func tuneCommand(k mountKind, examples []example) *command {
	var m mountFlags
	return &command{
		name: "tune", short: "Change how the " + k.what + " at a path is mounted", args: "PATH", min: 1, max: 1,
		long:     "Changes the settings that are given and keeps the others.",
		examples: examples,
		flags:    m.declare,
		run: func(ctx context.Context, s *session) error {
			path, err := folder(s.args[0])
			if err != nil {
				return err
			}
			client, err := s.connect()
			if err != nil {
				return err
			}
			body := m.config(s.flags)
			if s.flags.given("description") {
				body["description"] = m.description
			}
			if options := m.allOptions(s.flags); len(options) > 0 {
				body["options"] = options
			}
			if len(body) == 0 {
				return usagef("there is nothing to change: give a flag")
			}
			sec, err := client.write(ctx, k.api.below(path).below("tune"), body)
			if err != nil {
				return remote(err, "tuning the %s at %s/", k.what, path)
			}
			return s.out.done(sec, "Success! Tuned the %s at: %s/", k.what, path)
		},
	}
}
