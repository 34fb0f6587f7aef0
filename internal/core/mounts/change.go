package mounts

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/mount"
	"github.com/keyturn/keyturn/internal/storage"
)

// Enable mounts e. The caller sets Class, Path (as the user wrote it), Type, Options and Tune;
// Enable fills in the rest. It returns warnings for the client.
func (m *Manager) Enable(ctx context.Context, e mount.Entry) (warnings []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	options, err := m.complete(&e)
	if err != nil {
		return nil, err
	}
	if err := m.reloadLocked(ctx); err != nil {
		return nil, err
	}
	s := m.snap.Load()
	if why := s.Table.Conflict(e.Path); why != "" {
		return nil, fault.New("mounts.Enable", fault.Invalid, "nothing can be mounted at %q: %s", e.Path, why)
	}
	if err := m.checkTune(&e); err != nil {
		return nil, err
	}
	if err := m.inherit(ctx, s, &e); err != nil {
		return nil, err
	}
	return options.Warnings, m.add(ctx, &e, absoluteOps(&e, options)...)
}

// Rows returns the operations that store the secrets engines of a new installation, which are
// opened when it is first unsealed. The caller sets Path, Type, Description and Options.
func Rows(types Types, maxTTL time.Duration, engines []mount.Entry) ([]storage.Op, error) {
	m := &Manager{cfg: Config{Types: types, MaxTTL: maxTTL}}
	table, err := mount.NewTable(nil)
	if err != nil {
		return nil, err
	}
	for _, e := range builtin {
		e.UUID = e.Path
		if table, err = table.With(&e); err != nil {
			return nil, err
		}
	}
	var ops []storage.Op
	for _, e := range engines {
		e.Class = ClassSecret
		options, err := m.complete(&e)
		if err != nil {
			return nil, err
		}
		if why := table.Conflict(e.Path); why != "" {
			return nil, fault.New("mounts.Rows", fault.Invalid, "nothing can be mounted at %q: %s", e.Path, why)
		}
		if table, err = table.With(&e); err != nil {
			return nil, err
		}
		b, err := e.Encode()
		if err != nil {
			return nil, err
		}
		ops = append(append(ops, storage.Set(e.Key(), b)), absoluteOps(&e, options)...)
	}
	return ops, nil
}

// EnsureBuiltin adds the built-in mounts that are missing.
func (m *Manager) EnsureBuiltin(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range builtin {
		if m.snap.Load().Table.At(e.Path) != nil {
			continue
		}
		e.UUID, e.Accessor, e.Created = NewUUID(), NewAccessor(e.Class, e.Type), time.Now().UTC()
		if err := m.add(ctx, &e); err != nil {
			return err
		}
	}
	return nil
}

// add commits a new record with extra, opens it and swaps the snapshot.
func (m *Manager) add(ctx context.Context, e *mount.Entry, extra ...storage.Op) error {
	s := m.snap.Load()
	table, err := s.Table.With(e)
	if err != nil {
		return err
	}
	o, err := m.openEntry(e)
	if err != nil {
		return err
	}
	if err := m.commitLocked(ctx, e, extra...); err != nil {
		_ = o.close() // no request has reached it
		return err
	}
	open := maps.Clone(s.open)
	open[e.UUID] = o
	m.snap.Store(&Snapshot{Table: table, open: open})
	return nil
}

// absoluteOps returns the operations that an engine adds to the commit of its options, with
// absolute keys.
func absoluteOps(e *mount.Entry, o engine.Options) []storage.Op {
	var ops []storage.Op
	for _, op := range o.Along {
		op.Key = enginePrefix(e.UUID) + op.Key
		ops = append(ops, op)
	}
	return ops
}

// Change lets f edit a copy of the record of the mount at path, and commits it. If another server
// commits first, Change calls f again. options are the client's changes: nil removes an option,
// and a nil map changes none. The engine checks the new options, and uses them when Change
// returns. It returns warnings for the client. Built-in mounts cannot be changed, because their
// settings decide which fields the audit log shows in clear.
func (m *Manager) Change(
	ctx context.Context, path string, options map[string]*string, f func(e *mount.Entry),
) (warnings []string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for range maxTries {
		if err = m.reloadLocked(ctx); err != nil {
			return nil, err
		}
		if warnings, err = m.changeLocked(ctx, path, options, f); !fault.Is(err, fault.Conflict) {
			break
		}
	}
	return warnings, err
}

// maxTries is how often a change is attempted if other servers commit first.
const maxTries = 8

func (m *Manager) changeLocked(
	ctx context.Context, path string, options map[string]*string, f func(e *mount.Entry),
) ([]string, error) {
	s := m.snap.Load()
	old := s.Table.At(path)
	if old == nil {
		return nil, fault.New("mounts.Change", fault.Invalid, "nothing is mounted at %q; list sys/mounts and sys/auth",
			path)
	}
	if slices.Contains(fixedTypes, old.Type) {
		return nil, fault.New("mounts.Change", fault.Invalid,
			"%q is built in and cannot be tuned; tune auth/token, or a mount that you created", path)
	}
	e := *old
	f(&e)
	if err := m.checkTune(&e); err != nil {
		return nil, err
	}
	if options == nil {
		return nil, m.replace(ctx, s, &e)
	}
	e.Options = MergeOptions(old.Options, options)
	judged, err := m.options(&e, old.Options)
	if err != nil {
		return nil, err
	}
	if err := m.inherit(ctx, s, &e); err != nil { // nothing is published to kv of version 1
		return nil, err
	}
	return judged.Warnings, m.replace(ctx, s, &e, absoluteOps(&e, judged)...)
}

// MergeOptions returns options with the client's changes applied; a nil value removes an option.
func MergeOptions(options map[string]string, over map[string]*string) map[string]string {
	out := map[string]string{}
	maps.Copy(out, options)
	for name, value := range over {
		if value == nil {
			delete(out, name)
		} else {
			out[name] = *value
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// replace commits a changed record with extra, reopens the engine if its options have changed, and
// swaps the snapshot. If the engine cannot be opened, [Manager.Follow] retries, and the previous
// one continues to serve until then.
func (m *Manager) replace(ctx context.Context, s *Snapshot, e *mount.Entry, extra ...storage.Op) error {
	table, err := s.Table.With(e)
	if err != nil {
		return err
	}
	if err := m.commitLocked(ctx, e, extra...); err != nil {
		return err
	}
	old, open := s.open[e.UUID], s.open
	old.entry.Store(e)
	if m.outdated(old, e) {
		next, err := m.openEntry(e)
		if err != nil {
			m.stale = true
			return err
		}
		open = maps.Clone(open)
		open[e.UUID] = next
		defer func() { _ = old.close() }() // o has taken over
	}
	m.snap.Store(&Snapshot{Table: table, open: open})
	return nil
}

// Move moves a mount to another path. extra is added to the commit.
func (m *Manager) Move(ctx context.Context, from, to string, extra ...storage.Op) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reloadLocked(ctx); err != nil {
		return err
	}
	s := m.snap.Load()
	old := s.Table.At(from)
	if old == nil {
		return fault.New("mounts.Move", fault.Invalid,
			"field \"from\": nothing is mounted at %q; list sys/mounts and sys/auth", from)
	}
	if fixed(old) {
		return fault.New("mounts.Move", fault.Invalid,
			"field \"from\": %q cannot be moved, because the server needs it there; move mounts of your own only",
			from)
	}
	class := mount.ClassSecret
	if strings.HasPrefix(to, "auth/") {
		class = mount.ClassAuth
	}
	if class != old.Class {
		return fault.New("mounts.Move", fault.Invalid,
			"field \"to\": a secrets engine cannot be moved below auth/, nor a login method out of it; choose a "+
				"path on the same side")
	}
	clean, err := mount.CleanPath(class, strings.TrimPrefix(to, "auth/"))
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(clean, "/")
	if slices.Contains([]string{"sys", "cubbyhole", "audit", "identity", "token"}, first) {
		return fault.New("mounts.Move", fault.Invalid, "field \"to\": the path %q is reserved; choose another", clean)
	}
	without, err := s.Table.Without(old.UUID)
	if err != nil {
		return err
	}
	if why := without.Conflict(clean); why != "" {
		return fault.New("mounts.Move", fault.Invalid, "field \"to\": nothing can be mounted at %q: %s", clean, why)
	}
	// Rotated keys store the paths they publish to, and a write of a secret finds the key by its
	// path.
	if err := s.publishedBelow(ctx, old.Path, "and move the mount then"); err != nil {
		return err
	}
	e := *old
	e.Path = clean
	if err := m.inherit(ctx, s, &e); err != nil {
		return err
	}
	return m.replace(ctx, s, &e, extra...)
}

// fixedTypes are the types of mounts that cannot be tuned.
var fixedTypes = []string{"system", "cubbyhole", "identity"}

func fixed(e *mount.Entry) bool {
	return e.Type == "system" || e.Type == "cubbyhole" || e.Path == "auth/token/"
}

// Retire disables the mount at path; from then on, the engine only revokes. Unless forced, it
// refuses while the engine has unfinished work that nothing else would finish. job returns the
// operations of the job that ends the leases; they are in the same commit, because a crash between
// two commits would leave the leases. If nothing is mounted at path, it does nothing.
func (m *Manager) Retire(
	ctx context.Context, path string, force bool, job func(e *mount.Entry) ([]storage.Op, error),
) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.reloadLocked(ctx); err != nil {
		return err
	}
	s := m.snap.Load()
	old := s.Table.At(path)
	if old == nil {
		return nil
	}
	if fixed(old) {
		return fault.New("mounts.Retire", fault.Invalid,
			"%q cannot be disabled, because the server needs it; disable mounts of your own only", path)
	}
	if o := s.open[old.UUID]; o != nil && o.Keeper != nil && !force {
		if err := o.Keeper.Unfinished(ctx); err != nil {
			return err
		}
	}
	if !force {
		if err := s.publishedBelow(ctx, old.Path, "or disable the mount with force=true"); err != nil {
			return err
		}
	}
	e := *old
	e.Gone = time.Now().UTC()
	ops, err := job(&e)
	if err != nil {
		return err
	}
	return m.replace(ctx, s, &e, ops...)
}

// publishedBelow returns an error if a rotated key publishes below a mount, because without the
// mount its consumers could not read it, and its next rotation would fail. otherwise is the advice
// in the error.
func (s *Snapshot) publishedBelow(ctx context.Context, path, otherwise string) error {
	for _, o := range s.Rotators() {
		for record, err := range o.Rotator.Rotations().Statuses(ctx) {
			if err == nil && strings.HasPrefix(record.Place, path) {
				return fault.New("mounts.publishedBelow", fault.Conflict,
					"%s is published at %q, and its consumers would read nothing there any more; publish it "+
						"elsewhere or delete it first, %s",
					record.Path,
					record.Place,
					otherwise)
			}
			if record.Path == "" && err != nil {
				return err
			}
		}
	}
	return nil
}

// inherit notes in a mount's record whether something is published below its path already: to the
// mount that was there before, and was disabled by force. A write of a client must be judged from
// the commit on that stores the record. A record that cannot be read may publish there, too.
func (m *Manager) inherit(ctx context.Context, s *Snapshot, e *mount.Entry) error {
	e.Inherits = false
	t := m.cfg.engine(e.Type)
	if e.Class != mount.ClassSecret || t == nil || !t.Inherits {
		return nil
	}
	for _, o := range s.Rotators() {
		for record, err := range o.Rotator.Rotations().Statuses(ctx) {
			switch {
			case record.Path == "" && err != nil:
				return err
			case err != nil, strings.HasPrefix(record.Place, e.Path):
				e.Inherits = true
				return nil
			}
		}
	}
	return nil
}

// Remove removes a tombstone without leases, with all its data. It is repeatable.
func (m *Manager) Remove(ctx context.Context, uuid string) error {
	prefix := enginePrefix(uuid)
	for {
		var ops []storage.Op
		for row, err := range m.view.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
			if err != nil {
				return err
			}
			if ops = append(ops, storage.Remove(row.Key)); len(ops) == storage.MaxOps {
				break
			}
		}
		if len(ops) == 0 {
			break
		}
		if _, err := m.view.Commit(ctx, ops...); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := m.view.Commit(ctx, storage.Remove(mount.Prefix+uuid)); err != nil {
		return err
	}
	s := m.snap.Load()
	table, err := s.Table.Without(uuid)
	if err != nil {
		return err
	}
	open := maps.Clone(s.open)
	if o := open[uuid]; o != nil {
		_ = o.close() // an error loses nothing, because its leases are gone
		delete(open, uuid)
	}
	m.snap.Store(&Snapshot{Table: table, open: open})
	return nil
}
