package cli

import "fmt"

// enableCommand is "secrets enable" and "auth enable".
func enableCommand(k mountKind, examples []example) *command {
	var m mountFlags
	return &command{
		name: "enable", short: "Enable a " + k.what, args: "TYPE", min: 1, max: 1,
		long:     "Enables a " + k.what + " at a path.",
		examples: examples,
		flags:    m.declareEnable,
		run: runChange(func(s *session) (call, error) {
			kind := s.args[0]
			path, err := m.mountPath(kind)
			return call{
				op: "update", path: k.api.below(path), body: m.enableBody(kind, s.flags),
				doing:   fmt.Sprintf("enabling the %s %s at %s/", kind, k.what, path),
				success: fmt.Sprintf(k.enabled, kind, path),
			}, err
		}),
	}
}

// mountPath is the path to mount at: that of -path, or the name of the type.
func (m *mountFlags) mountPath(kind string) (target, error) {
	switch {
	case m.path != "":
		return folder(m.path)
	case kind == "plugin":
		return folder(m.plugin)
	}
	return folder(kind)
}

// enableBody is the body of the request that mounts.
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
		run: runChange(func(s *session) (call, error) {
			path, err := folder(s.args[0])
			if err != nil {
				return call{}, err
			}
			body := m.config(s.flags)
			if s.flags.given("description") {
				body["description"] = m.description
			}
			if options := m.allOptions(s.flags); len(options) > 0 {
				body["options"] = options
			}
			if len(body) == 0 {
				return call{}, usagef("there is nothing to change: give a flag")
			}
			return call{
				op: "update", path: k.api.below(path).below("tune"), body: body,
				doing:   fmt.Sprintf("tuning the %s at %s/", k.what, path),
				success: fmt.Sprintf("Success! Tuned the %s at: %s/", k.what, path),
			}, nil
		}),
	}
}
