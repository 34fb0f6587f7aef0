package recipe

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
	"github.com/keyturn/keyturn/internal/secret"
)

const (
	maxPages  = 100
	maxListed = 20_000
)

// A source is a recipe bound to parameters, admin credentials and a client.
type source struct {
	recipe *recipe
	eval   *evaluator
	call   *caller
}

func optionalText(text string) cty.Value {
	if text == "" {
		return cty.NullVal(cty.String)
	}
	return cty.StringVal(text)
}

// keyVar returns the variables that select a key in a request.
func (s *source) keyVar(id string) scope { return scope{"key": cty.ObjectVal(s.keyNames(id))} }

func (s *source) keyNames(id string) map[string]cty.Value {
	names := map[string]cty.Value{"id": cty.StringVal(id)}
	if len(s.recipe.def.Slots) > 0 {
		names["slot"] = cty.StringVal(rotation.SlotOf(id))
	}
	return names
}

// Create implements [rotation.Source].
func (s *source) Create(ctx context.Context, o rotate.Order) (rotate.Credential, error) {
	st := s.recipe.create
	if st == nil {
		return rotate.Credential{}, s.call.unsupported("create")
	}
	marker := o.Marker.String()
	switch limit := s.recipe.def.Limits.Label; {
	case !o.Marker.Valid():
		return rotate.Credential{},
			s.call.failure(&st.step, rotate.Permanent, fault.Invalid, "the marker is not valid", nil)
	case limit > 0 && len(marker) > limit:
		return rotate.Credential{},
			s.call.failure(&st.step, rotate.Permanent, fault.Invalid, "the marker is longer than a label may be", nil)
	}
	order := scope{
		"marker":  cty.StringVal(marker),
		"current": cty.ObjectVal(map[string]cty.Value{"id": optionalText(o.Current)}),
	}
	id := ""
	if len(s.recipe.def.Slots) > 0 {
		slot, err := s.recipe.idleSlot(o.Current)
		if err != nil {
			return rotate.Credential{},
				s.call.failure(&st.step, rotate.Permanent, fault.Invalid, fault.Message(err), nil)
		}
		order["slot"] = cty.StringVal(slot)
		id = fmt.Sprintf("%s%s%d.%d", slot, rotation.SlotMark, o.Marker.Turn, o.Marker.Attempt)
	}
	r, err := s.call.send(ctx, &st.step, s.eval.vars(ctx, order))
	if err == nil {
		err = s.call.check(&st.step, r)
	}
	if err == nil && st.poll != nil {
		r, err = s.call.await(ctx, st.poll, r)
	}
	switch {
	case err == nil:
		return s.credential(st, r, id)
	case o.Current == "" && st.read != nil && fault.Is(err, fault.Invalid) && uses(st.read.request(), "current", "id"):
		return rotate.Credential{}, s.call.failure(&st.read.step, rotate.Permanent, fault.Invalid,
			"the request needs the ID of the current key, which is not known; give current_key_id, or a parameter of "+
				"the recipe that takes its place", nil)
	}
	return rotate.Credential{}, err
}

// credential extracts the new key from a reply. id is its ID, or "" if the reply has it. If that
// fails, credential returns an Unknown failure, with the id if the reply has a valid one. The key
// exists then, but nobody will know its secret.
func (s *source) credential(st *createStep, r *reply, id string) (rotate.Credential, error) {
	c := rotate.Credential{Secret: map[string]secret.Value{}, Public: map[string]string{}}
	lost := func(err error) (rotate.Credential, error) {
		f := s.call.failure(&st.step, rotate.Unknown, fault.Upstream,
			"the reply does not hold what the recipe says: "+fault.Message(err), nil)
		f.ID, f.Status, f.Repeats = c.ID, r.status, true
		return rotate.Credential{}, f
	}
	for _, o := range st.secret { // first, so that no error below can show one
		v, _, err := s.eval.text(o.expr, r.vars)
		if err == nil && (v == "" || len(v) > rotation.MaxOutput) {
			err = fault.New("recipe.create", fault.Upstream,
				"secret %q is empty or too long; check its expression against the provider's reply", o.name)
		}
		if err != nil {
			if st.id != nil {
				if id, _, bad := s.eval.text(st.id, r.vars); bad == nil && rotation.ValidID(id) {
					c.ID = id
				}
			}
			return lost(err)
		}
		c.Secret[o.name] = secret.Text(v)
		s.eval.know(v)
	}
	var err error
	if st.id != nil {
		if id, _, err = s.eval.text(st.id, r.vars); err == nil && !rotation.ValidID(id) {
			err = fault.New("recipe.create", fault.Upstream,
				"the id is empty, too long or not printable; check its expression against the provider's reply")
		}
		if err != nil {
			return lost(err)
		}
	}
	c.ID = id
	for _, o := range st.public {
		v, ok, err := s.eval.text(o.expr, r.vars)
		if err == nil && len(v) > rotation.MaxOutput {
			err = fault.New("recipe.create", fault.Upstream,
				"%q is too long; check its expression against the provider's reply", o.name)
		}
		if err != nil {
			return lost(err)
		}
		if ok {
			c.Public[o.name] = v
		}
	}
	if c.Expires, err = s.eval.timestamp(st.expires, r.vars); err != nil {
		return lost(err)
	}
	return c, nil
}

// sendVerify sends the verifying request. sendVerify returns nil if the provider accepted the key,
// a Rejected failure if the provider refused the key, and another failure in any other case.
func (s *source) sendVerify(ctx context.Context, c rotate.Credential) error {
	st := s.recipe.verify
	key := s.keyNames(c.ID)
	unknownID := c.ID == "" // somebody else created the key, and only its secret is known
	if unknownID && uses(st.expressions(), "key", "id") {
		return s.call.failure(&st.step, rotate.Untested, fault.Invalid,
			"the request needs the key's id, which is not known", nil)
	}
	for _, o := range s.recipe.def.Outputs {
		if !o.Secret {
			key[o.Name] = optionalText(c.Public[o.Name])
			continue
		}
		v := c.Secret[o.Name]
		if v.Empty() {
			return s.call.failure(&st.step, rotate.Permanent, fault.Invalid, "the credential has no "+o.Name, nil)
		}
		s.eval.know(v.RevealString())
		key[o.Name] = cty.StringVal(v.RevealString()).Mark(sensitive)
	}
	r, err := s.call.send(ctx, &st.step, s.eval.vars(ctx, scope{"key": cty.ObjectVal(key)}))
	if err != nil {
		return err
	}
	if unknownID {
		s.completeKey(st, r, key)
	}
	refused := r.status == 401 || r.status == 403
	if st.rejected != nil {
		if refused, err = s.eval.boolean(st.rejected, r.vars, false); err != nil {
			refused = false
		}
	}
	if ok, err := s.call.expected(&st.step, r); refused && (!ok || err != nil || st.rejected != nil) {
		return s.call.unexpected(&st.step, r, rotate.Rejected, nil)
	}
	return s.call.check(&st.step, r)
}

// completeKey completes the unknown parts of a key from a reply. A part is completed only if the
// recipe's conditions compare it with the reply, as in response.json.id == key.id. A secret is
// never completed. The key was not created here, so only the provider can say which key it is. The
// rest of the conditions applies as for any other key.
func (s *source) completeKey(st *verifyStep, r *reply, key map[string]cty.Value) {
	conditions := []hcl.Expression{st.when, st.rejected}
	for _, f := range st.fails {
		conditions = append(conditions, f.when)
	}
	for _, condition := range conditions {
		if condition == nil {
			continue
		}
		_ = hclsyntax.VisitAll(condition.(hclsyntax.Node), func(n hclsyntax.Node) hcl.Diagnostics {
			op, ok := n.(*hclsyntax.BinaryOpExpr)
			if !ok || op.Op != hclsyntax.OpEqual && op.Op != hclsyntax.OpNotEqual {
				return nil
			}
			for _, sides := range [][2]hcl.Expression{{op.LHS, op.RHS}, {op.RHS, op.LHS}} {
				name := keyPart(sides[0])
				if v, known := key[name]; !known || name != "id" && !v.IsNull() {
					continue
				}
				if name == "id" && key["id"].AsString() != "" || slices.Contains(s.recipe.def.Outputs,
					rotation.Output{Name: name, Secret: true}) {
					continue
				}
				if text, ok, err := s.eval.text(sides[1], r.vars); err == nil && ok {
					key[name] = cty.StringVal(text)
				}
			}
			return nil
		})
	}
	r.vars = r.vars.with(scope{"key": cty.ObjectVal(key)})
}

// keyPart returns the name of the part of a key that an expression selects, or "" if the
// expression is something else.
func keyPart(e hcl.Expression) string {
	n, ok := unmetered(e).(*hclsyntax.ScopeTraversalExpr)
	if !ok || n.Traversal.RootName() != "key" || len(n.Traversal) != 2 {
		return ""
	}
	return stepName(n.Traversal[1])
}

// Verify implements [rotation.Source].
func (s *source) Verify(ctx context.Context, c rotate.Credential) error {
	if s.recipe.verify == nil {
		return nil
	}
	return s.sendVerify(ctx, c)
}

// VerifyDead implements [rotation.Source].
func (s *source) VerifyDead(ctx context.Context, c rotate.Credential) error {
	if s.recipe.verify == nil {
		return s.call.unsupported("verify")
	}
	err := s.sendVerify(ctx, c)
	switch {
	case err == nil:
		return s.call.failure(&s.recipe.verify.step, rotate.Alive, fault.Upstream,
			"the provider still accepts the key", nil)
	case rotate.OutcomeOf(err) == rotate.Rejected:
		return nil
	}
	return err
}

// List implements [rotation.Source].
func (s *source) List(ctx context.Context) ([]rotate.Listed, error) {
	st := s.recipe.list
	if st == nil {
		return nil, s.call.unsupported("list")
	}
	broken := func(err error) ([]rotate.Listed, error) {
		return nil, s.call.failure(&st.step, rotate.Permanent, fault.Upstream,
			"the reply does not hold what the recipe says: "+fault.Message(err), nil)
	}
	out, seen := []rotate.Listed{}, map[string]bool{}
	page := cty.NullVal(cty.DynamicPseudoType)
	for range maxPages {
		r, err := s.call.send(ctx, &st.step, s.eval.vars(ctx, scope{"page": page}))
		if err == nil {
			err = s.call.check(&st.step, r)
		}
		if err != nil {
			return nil, err
		}
		if err := s.addPage(st, r, seen, &out); err != nil {
			return broken(err)
		}
		next, err := s.nextPage(st, r)
		if err != nil {
			return broken(err)
		}
		if next.IsNull() {
			return out, nil
		}
		if next.RawEquals(page) {
			return broken(fault.New("recipe.list", fault.Upstream,
				"the next page is the same as this one; check the recipe's list.next"))
		}
		page = next
	}
	return broken(fault.New("recipe.list", fault.TooLarge,
		"the list has more than %d pages; let the recipe request larger pages, or delete keys that nobody uses",
		maxPages))
}

// nextPage evaluates the variable "page" of the next request. nextPage returns null after the last
// page.
func (s *source) nextPage(st *listStep, r *reply) (cty.Value, error) {
	end := cty.NullVal(cty.DynamicPseudoType)
	if st.next == nil {
		return end, nil
	}
	v, err := s.eval.value(st.next, r.vars)
	if err != nil {
		return end, err
	}
	t, ok, err := text(v)
	switch {
	case err != nil || len(t) > maxURL:
		return end, fault.New("recipe.list", fault.Upstream, "%s: want a string or a number",
			position(st.next.Range()))
	case !ok || t == "":
		return end, nil
	}
	return v, nil
}

// addPage adds the keys of one page. addPage skips keys that are already listed, because a key can
// move to the next page between two requests.
func (s *source) addPage(st *listStep, r *reply, seen map[string]bool, out *[]rotate.Listed) error {
	items, err := s.eval.value(st.items, r.vars)
	if err != nil {
		return err
	}
	t := items.Type()
	if items.IsNull() || !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		return fault.New("recipe.list", fault.Upstream, "%s: want a list", position(st.items.Range()))
	}
	for it := items.ElementIterator(); it.Next(); {
		_, item := it.Element()
		vars := scope{meterName: r.vars[meterName], "param": s.eval.base["param"], "now": r.vars["now"], "item": item}
		if wanted, err := s.eval.boolean(st.where, vars, true); err != nil {
			return err
		} else if !wanted {
			continue
		}
		l, err := s.listedKey(st, vars)
		if err != nil {
			return err
		}
		if seen[l.ID] {
			continue
		}
		if seen[l.ID] = true; len(seen) > maxListed {
			return fault.New("recipe.list", fault.TooLarge,
				"the list has more than %d keys; delete those that nobody uses at the provider", maxListed)
		}
		*out = append(*out, l)
	}
	return nil
}

// listedKey reads one item of a list.
func (s *source) listedKey(st *listStep, vars scope) (l rotate.Listed, err error) {
	if l.ID, _, err = s.eval.text(st.id, vars); err != nil {
		return l, err
	}
	if !rotation.ValidID(l.ID) {
		return l, fault.New("recipe.list", fault.Upstream,
			"%s: the id is empty, too long or not printable; check the expression for the id", position(st.id.Range()))
	}
	if l.Label, _, err = s.eval.text(st.label, vars); err != nil {
		return l, err
	}
	l.Marker, _ = rotate.ParseMarker(l.Label)
	if l.Created, err = s.eval.timestamp(st.created, vars); err != nil {
		return l, err
	}
	if l.LastUsed, err = s.eval.timestamp(st.lastUsed, vars); err != nil {
		return l, err
	}
	l.Disabled, err = s.eval.boolean(st.disabled, vars, false)
	return l, err
}

// LastUsed implements [rotation.Source].
func (s *source) LastUsed(ctx context.Context, id string) (time.Time, error) {
	st := s.recipe.lastUsed
	if st == nil {
		return s.lastUsedInList(ctx, id)
	}
	r, err := s.call.send(ctx, &st.step, s.eval.vars(ctx, s.keyVar(id)))
	if err == nil {
		err = s.call.check(&st.step, r)
	}
	if err != nil {
		return time.Time{}, err
	}
	used, err := s.eval.timestamp(st.value, r.vars)
	if err != nil {
		return time.Time{},
			s.call.failure(&st.step, rotate.Permanent, fault.Upstream,
				"the reply does not hold what the recipe says: "+fault.Message(err), nil)
	}
	return used, nil
}

// lastUsedInList finds the last use of a key in the list.
func (s *source) lastUsedInList(ctx context.Context, id string) (time.Time, error) {
	if s.recipe.list == nil || s.recipe.list.lastUsed == nil {
		return time.Time{}, s.call.unsupported("last_used")
	}
	all, err := s.List(ctx)
	for _, l := range all {
		if l.ID == id {
			return l.LastUsed, nil
		}
	}
	return time.Time{}, err
}

// Disable implements [rotation.Source].
func (s *source) Disable(ctx context.Context, id string) error {
	if s.recipe.disable == nil {
		return s.call.unsupported("disable")
	}
	return s.remove(ctx, s.recipe.disable, id)
}

// Retire implements [rotation.Source].
func (s *source) Retire(ctx context.Context, id string) error {
	if s.recipe.retire == nil {
		return s.call.unsupported("retire")
	}
	return s.remove(ctx, s.recipe.retire, id)
}

// readsKey reports whether the provider answers the read request with 404 or 410 exactly if the
// key is gone. With digest authentication, the first reply proves nothing.
func (st *removalStep) readsKey() bool {
	return st.read != nil && !st.ends && st.absent == nil && uses(st.read.request(), "key", "id") &&
		st.read.auth.kind != "digest" && st.auth.kind != "digest"
}

// remove sends the request that disables or retires a key. remove also succeeds if the key is
// gone.
func (s *source) remove(ctx context.Context, st *removalStep, id string) error {
	if !rotation.ValidID(id) {
		return s.call.failure(&st.step, rotate.Permanent, fault.Invalid, "the key's id is not valid", nil)
	}
	r, err := s.call.send(ctx, &st.step, s.eval.vars(ctx, s.keyVar(id)))
	if err != nil {
		f, _ := errors.AsType[*rotate.Failure](err)
		if f != nil && (f.Status == 404 || f.Status == 410) && st.readsKey() {
			return nil // the key that was to be read is gone
		}
		return err
	}
	gone := (r.status == 404 || r.status == 410) && !st.ends // a slot is never gone
	if st.absent != nil {
		if gone, err = s.eval.boolean(st.absent, r.vars, false); err != nil {
			gone = false
		}
	}
	if gone {
		return nil
	}
	return s.call.check(&st.step, r)
}
