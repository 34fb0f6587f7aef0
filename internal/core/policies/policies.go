// Package policies is the part of core that stores policies, and caches them compiled for each set
// of names that tokens have.
//
//	core/policy/<name>           an ACL policy
//	core/password-policy/<name>  a password policy
//
// Follow drops the compiled sets when any server of the store changes a policy. While the change
// feed is silent, sets are compiled for each request. Names without a policy grant nothing.
package policies

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/policy"
	"github.com/keyturn/keyturn/internal/policy/password"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

// Prefixes of the keys.
const (
	aclRows        barrier.Rows[Record] = "core/policy/"
	passwordPrefix                      = "core/password-policy/"
)

// Root is the policy that allows everything.
const Root = policy.Root

// Resultant lists what a set of policies allows.
type Resultant = policy.Resultant

// ops are the operations as policies know them.
var ops = map[route.Op]policy.Operation{
	route.Read: policy.Read, route.Write: policy.Update, route.Create: policy.Create,
	route.Delete: policy.Delete, route.List: policy.List, route.Patch: policy.Patch,
}

// A Query is a request as a policy sees it.
type Query struct {
	Path    string
	Op      route.Op
	Body    []byte
	Form    *wire.Form // how the body is parsed
	WrapTTL time.Duration
	Sudo    bool // the route demands sudo, too
}

// Decide evaluates the named policies.
func (m *Manager) Decide(ctx context.Context, names []string, q Query) (policy.Decision, error) {
	set, err := m.Set(ctx, names)
	if err != nil {
		return policy.Decision{}, err
	}
	return set.Decide(policy.Query{
		Path: q.Path, Op: ops[q.Op], Body: q.Body, Form: q.Form, WrapTTL: q.WrapTTL, Sudo: q.Sudo,
	}), nil
}

// Name is the canonical form of a policy's name.
func Name(s string) (string, error) { return policy.Name(s) }

// Check refuses names that are not canonical policy names.
func Check(names []string) error {
	for _, n := range names {
		if err := policy.Canonical(n); err != nil {
			return err
		}
	}
	return nil
}

// maxSets and maxKept bound the compiled sets that are kept, by their number and by the bytes of
// their texts; past either all are dropped. maxSet is how many bytes the policies of one token
// have together: they are compiled for one request.
const (
	maxCachedSets  = 4096
	maxCachedBytes = 64 << 20
	maxTextBytes   = 4 << 20
)

// A Record is a stored policy.
type Record struct {
	Name     string    `json:"-"`
	Text     string    `json:"text"`
	Version  int       `json:"version"`
	Modified time.Time `json:"modified"`
}

// A Manager stores and compiles policies. Safe for concurrent use.
type Manager struct {
	view *barrier.View

	feedSeen atomic.Int64 // the feed's last progress, unix nanoseconds

	mu          sync.RWMutex
	gen         uint64 // number of changes; a set is not cached if it changed while the set was compiled
	sets        map[string]compiled
	cachedBytes int // bytes of the texts of sets
}

// freshFor is how long after the feed's last sign of life the cache is used.
const freshFor = time.Second

// Follow drops the cached sets when policies change, until ctx ends.
func (m *Manager) Follow(ctx context.Context) error {
	for ctx.Err() == nil {
		begun := false
		for ch, err := range m.view.Watch(ctx, string(aclRows), 0) {
			if err != nil {
				break
			}
			if !begun || ch.Key != "" { // the feed does not report changes from before it began
				begun = true
				m.changed()
			}
			m.feedSeen.Store(time.Now().UnixNano())
		}
		m.feedSeen.Store(0)
		cron.Pause(ctx, 50*time.Millisecond)
	}
	return ctx.Err()
}

// A compiled set of policies, and the names that do not exist.
type compiled struct {
	set     *policy.Set // nil: refused
	absent  []string
	refusal error // why the policies are never compiled
}

// New returns a manager with an empty cache.
func New(b *barrier.Barrier) *Manager { return &Manager{view: b.View("")} }

// Ensure writes the default policy if there is none.
func (m *Manager) Ensure(ctx context.Context) error {
	row, err := m.view.Get(ctx, aclRows.Key("default"))
	if err != nil || row.Version != 0 {
		return err
	}
	return m.Write(ctx, "default", policy.DefaultText)
}

// Set returns the compiled set of the named policies.
func (m *Manager) Set(ctx context.Context, names []string) (*policy.Set, error) {
	c, err := m.compiled(ctx, names)
	return c.set, err
}

// Absent returns the names whose policies do not exist.
func (m *Manager) Absent(ctx context.Context, names []string) ([]string, error) {
	c, err := m.compiled(ctx, names)
	return c.absent, err
}

func (m *Manager) compiled(ctx context.Context, names []string) (compiled, error) {
	var room [128]byte
	id := wire.AppendKey(room[:0], names...)
	m.mu.RLock()
	c, gen := m.sets[string(id)], m.gen
	m.mu.RUnlock()
	if (c.set != nil || c.refusal != nil) && time.Now().UnixNano()-m.feedSeen.Load() <= int64(freshFor) {
		return c, c.refusal
	}
	texts, size, err := m.texts(ctx, names)
	if err != nil {
		return compiled{}, err
	}
	c = compiled{}
	if size > maxTextBytes { // check before parsing, which takes a tenth of a second per megabyte
		size = 0
		c.refusal = fault.New("policies.Set", fault.TooLarge,
			"the policies of the token have more than %d bytes together; give it fewer, or shorter ones", maxTextBytes)
	} else if c.set, c.absent, err = compile(ctx, names, texts); err != nil {
		return compiled{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gen == gen {
		if m.sets == nil || len(m.sets) >= maxCachedSets || m.cachedBytes+size > maxCachedBytes {
			m.sets, m.cachedBytes = map[string]compiled{}, 0
		}
		m.sets[string(id)] = c
		m.cachedBytes += size
	}
	return c, c.refusal
}

// texts reads policies and adds up their sizes. It stops when they are too large together.
func (m *Manager) texts(ctx context.Context, names []string) (texts []*Record, size int, err error) {
	for _, name := range names {
		rec, err := m.Read(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		if texts = append(texts, rec); rec == nil {
			continue
		}
		if size += len(rec.Text); size > maxTextBytes {
			break
		}
	}
	return texts, size, nil
}

// compile parses and compiles the policies. A text is nil if its policy does not exist.
func compile(ctx context.Context, names []string, texts []*Record) (set *policy.Set, absent []string, err error) {
	var ps []*policy.Policy
	for i, name := range names {
		if err := ctx.Err(); err != nil { // parsing one may take a third of a second
			return nil, nil, fault.Wrap("policies.Set", fault.Timeout, err)
		}
		switch {
		case name == policy.Root:
			ps = append(ps, policy.RootPolicy())
		case texts[i] == nil:
			absent = append(absent, name)
		default:
			p, err := policy.Parse(name, texts[i].Text)
			if err != nil {
				return nil, nil, fault.Wrap("policies.Set", fault.Internal, err)
			}
			ps = append(ps, p)
		}
	}
	return policy.Compile(ps), absent, nil
}

func (m *Manager) changed() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gen++
	m.sets, m.cachedBytes = nil, 0
}

// Read returns a policy, or nil if there is none. The root policy has no text.
func (m *Manager) Read(ctx context.Context, name string) (*Record, error) {
	if policy.Canonical(name) != nil {
		return nil, nil // such a name cannot have been written
	}
	if name == policy.Root {
		return &Record{Name: name}, nil
	}
	rec, _, err := aclRows.Get(ctx, m.view, name)
	if rec != nil {
		rec.Name = name
	}
	return rec, err
}

// Write checks and stores a policy.
func (m *Manager) Write(ctx context.Context, name, text string) error {
	if err := policy.Canonical(name); err != nil {
		return err
	}
	if name == policy.Root {
		return fault.New("policies.Write", fault.Invalid,
			"the policy \"root\" cannot be changed; write one of another name")
	}
	if _, err := policy.Parse(name, text); err != nil {
		return err
	}
	for range 8 {
		row, err := m.view.Get(ctx, aclRows.Key(name))
		if err != nil {
			return err
		}
		rec := Record{Text: text, Version: 1, Modified: time.Now().UTC()}
		if row.Version != 0 {
			if old, err := aclRows.Decode(row); err == nil {
				rec.Version = old.Version + 1
			}
		}
		op, err := aclRows.Set(name, rec)
		if err != nil {
			return err
		}
		_, err = m.view.Commit(ctx, op.If(row.Version))
		m.changed()
		if !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fault.New("policies.Write", fault.Unavailable,
		"the policy is being written by many requests at once; try again")
}

// Delete removes a policy, if it exists.
func (m *Manager) Delete(ctx context.Context, name string) error {
	if err := policy.Canonical(name); err != nil {
		return err
	}
	if name == policy.Root || name == "default" {
		return fault.New("policies.Delete", fault.Invalid,
			"the policy %q cannot be deleted, because every server has it; remove it from the tokens that should "+
				"not have it",
			name)
	}
	err := m.view.Delete(ctx, aclRows.Key(name))
	m.changed()
	return err
}

// List returns the sorted names of all policies, including root.
func (m *Manager) List(ctx context.Context) ([]string, error) {
	names, err := m.view.Names(ctx, string(aclRows))
	names = append(names, policy.Root)
	slices.Sort(names)
	return names, err
}

// ListPassword returns the names of the password policies.
func (m *Manager) ListPassword(ctx context.Context) ([]string, error) {
	return m.view.Names(ctx, passwordPrefix)
}

// ReadPassword returns the text of a password policy, or "" if there is none.
func (m *Manager) ReadPassword(ctx context.Context, name string) (string, error) {
	if policy.Canonical(name) != nil {
		return "", nil // such a name cannot have been written
	}
	row, err := m.view.Get(ctx, passwordPrefix+name)
	return string(row.Value), err
}

// WritePassword checks a password policy by generating a password, and stores it.
func (m *Manager) WritePassword(ctx context.Context, name, text string) error {
	if err := policy.Canonical(name); err != nil {
		return err
	}
	p, err := password.Parse(text)
	if err != nil {
		return err
	}
	if _, err := p.Generate(); err != nil {
		return err
	}
	_, err = m.view.Commit(ctx, storage.Set(passwordPrefix+name, []byte(text)))
	return err
}

// DeletePassword removes a password policy, if it exists.
func (m *Manager) DeletePassword(ctx context.Context, name string) error {
	if err := policy.Canonical(name); err != nil {
		return err
	}
	return m.view.Delete(ctx, passwordPrefix+name)
}

// Password generates a password by a named policy; "" is the default one.
func (m *Manager) Password(ctx context.Context, name string) (secret.Value, error) {
	if name == "" {
		return password.Default().Generate()
	}
	if err := policy.Canonical(name); err != nil {
		return secret.Value{}, err
	}
	text, err := m.ReadPassword(ctx, name)
	if err != nil {
		return secret.Value{}, err
	}
	if text == "" {
		return secret.Value{}, fault.New("policies.Password", fault.NotFound,
			"there is no password policy %q; list sys/policies/password, or write it there first", name)
	}
	p, err := password.Parse(text)
	if err != nil {
		return secret.Value{}, err
	}
	return p.Generate()
}
