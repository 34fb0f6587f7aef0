package mounts

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/auth"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
)

// complete checks the fields that a user has set, and fills in the rest.
func (m *Manager) complete(e *mount.Entry) (engine.Options, error) {
	var none engine.Options
	path, err := mount.CleanPath(e.Class, e.Path)
	if err != nil {
		return none, err
	}
	e.Path = path
	if e.Type == "" {
		return none, fault.New("mounts.Enable", fault.Invalid,
			"field \"type\": say which engine to mount, for example \"kv\"")
	}
	first, _, _ := strings.Cut(path, "/")
	if e.Class == mount.ClassSecret &&
		slices.Contains([]string{"sys", "auth", "cubbyhole", "audit", "identity", "token"}, first) {
		return none, fault.New("mounts.Enable", fault.Invalid, "the path %q is reserved; choose another", path)
	}
	if e.Class == mount.ClassAuth {
		err = m.completeAuth(e)
	} else {
		err = m.completeEngine(e)
	}
	if err != nil {
		return none, err
	}
	e.UUID, e.Accessor, e.Created = NewUUID(), NewAccessor(e.Class, e.Type), time.Now().UTC()
	return m.options(e, nil)
}

func (m *Manager) completeAuth(e *mount.Entry) error {
	i := slices.IndexFunc(m.cfg.Auths, func(t auth.Type) bool { return t.Name == e.Type && !t.Single })
	if i < 0 {
		return fault.New("mounts.Enable", fault.Invalid, "field \"type\": there is no login method %q; there are %s",
			e.Type, m.cfg.authNames())
	}
	return nil
}

func (m *Manager) completeEngine(e *mount.Entry) error {
	if v, ok := strings.CutPrefix(e.Type, "kv-v"); ok && (v == "1" || v == "2") {
		e.Type = "kv"
		e.Options = maps.Clone(e.Options)
		if e.Options == nil {
			e.Options = map[string]string{}
		}
		e.Options["version"] = v
	}
	if t := m.cfg.engine(e.Type); t == nil || t.Single {
		return fault.New("mounts.Enable", fault.Invalid, "field \"type\": there is no secrets engine %q; there are %s",
			e.Type, m.cfg.engineNames())
	}
	return nil
}

// options lets the engine check the new options of e. before are the old ones.
func (m *Manager) options(e *mount.Entry, before map[string]string) (engine.Options, error) {
	judge := m.judge(e)
	if judge == nil {
		out := engine.Options{Stored: e.Options}
		if len(e.Options) > 0 {
			out.Warnings = []string{fmt.Sprintf("options are kept and have no effect: %s reads none", e.Type)}
		}
		return out, nil
	}
	out, err := judge(before, e.Options)
	e.Options = out.Stored
	return out, err
}

// judge returns the engine's function that checks the options of e; nil: they are ignored.
func (m *Manager) judge(e *mount.Entry) func(was, want map[string]string) (engine.Options, error) {
	if e.Class != mount.ClassSecret {
		return nil
	}
	if t := m.cfg.engine(e.Type); t != nil {
		return t.Options
	}
	return nil
}

func (t Types) engineNames() string {
	var names []string
	for _, e := range t.Engines {
		if !e.Single {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (t Types) authNames() string {
	var names []string
	for _, a := range t.Auths {
		if !a.Single {
			names = append(names, a.Name)
		}
	}
	if len(names) == 0 {
		return "none but token yet"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (m *Manager) checkTune(e *mount.Entry) error {
	def, limit := e.Tune.DefaultTTL, e.Tune.MaxTTL
	if limit == 0 {
		limit = m.cfg.MaxTTL
	}
	if def > limit {
		return fault.New("mounts.Tune", fault.Invalid,
			"field \"default_lease_ttl\": %s must not be above max_lease_ttl, %s", def, limit)
	}
	if v := e.Tune.ListingVisibility; v != "" && v != "unauth" && v != "hidden" {
		return fault.New("mounts.Tune", fault.Invalid,
			"field \"listing_visibility\" must be \"unauth\", \"hidden\" or empty, not %q", v)
	}
	return nil
}
