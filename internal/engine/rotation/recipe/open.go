package recipe

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/keyturn/keyturn/internal/engine/rotation"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/outbound"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/recipes"
)

// maxParams is the maximum size in bytes of all parameters together, and of one admin credential.
// maxUnknown is the maximum number of unknown names that an error lists.
const (
	maxParams  = 16 << 10
	maxUnknown = 10
)

// open validates a binding and returns its source. replay is nil except in tests and rehearsals.
func open(c rotation.OpenConfig, replay http.RoundTripper) (*source, error) {
	r, err := boundRecipe(c.Definition)
	if err != nil {
		return nil, err
	}
	ev := &evaluator{redactor: c.Redactor}
	if ev.redactor == nil {
		ev.redactor = new(secret.Redactor)
	}
	var wrong []string
	params, admin := bindParams(r, c, &wrong), bindAdmin(r, c, ev, &wrong)
	if len(wrong) > 0 {
		return nil, refused(r, wrong)
	}
	ev.base = scope{"param": cty.ObjectVal(params), "admin": cty.ObjectVal(admin)}
	origins := originsOf(r, ev, &wrong)
	for _, st := range r.steps() {
		if why := urlProblem(st, ev.base["param"], origins); why != "" && len(wrong) == 0 {
			wrong = append(wrong, why)
		}
	}
	if len(wrong) > 0 {
		return nil, refused(r, wrong)
	}
	client := outbound.NewClient(
		outbound.ClientConfig{Origins: origins, Dial: c.Dial, Roots: c.Roots, Replay: replay, MaxReply: maxReply})
	return &source{r, ev, &caller{recipe: r.def.Name, eval: ev, client: client, onExchange: c.OnExchange}}, nil
}

func refused(r *recipe, wrong []string) error {
	return fault.New("recipe.Open", fault.Invalid, "recipe %q: %s", r.def.Name, strings.Join(wrong, "; "))
}

// boundRecipe parses the text of a definition. boundRecipe refuses a text whose hash is not the
// one that the key is bound to.
func boundRecipe(d rotation.Definition) (*recipe, error) {
	source := d.Source
	if len(source) == 0 {
		var err error
		if source, err = fs.ReadFile(recipes.Files, d.Name+".hcl"); err != nil {
			return nil, fault.New("recipe.Open", fault.NotFound, "there is no recipe %q; write it first", d.Name)
		}
	}
	if hash := hashOf(source); hash != d.Hash {
		return nil, fault.New("recipe.Open", fault.Held, "recipe %q has changed since the key was bound to it (its "+
			"hash is %s now); bind the key again: write keys/NAME/rebind", d.Name, hash)
	}
	r, err := parse(d.Name+".hcl", source)
	if err == nil && r.def.Name != d.Name {
		err = fault.New("recipe.Open", fault.Invalid,
			"the text names the recipe %q, not %q; write it under its own name", r.def.Name, d.Name)
	}
	return r, err
}

// bindParams converts the configured parameters to typed values.
func bindParams(r *recipe, c rotation.OpenConfig, wrong *[]string) map[string]cty.Value {
	out := map[string]cty.Value{}
	total := 0
	for _, f := range r.def.Params {
		raw, ok := c.Params[f.Name]
		if !ok {
			raw = f.Default
		}
		if len(raw) == 0 {
			*wrong = append(*wrong, fmt.Sprintf("params.%s is required: %s", f.Name, f.Description))
			continue
		}
		if total += len(raw); total > maxParams {
			break
		}
		v, err := paramValue(raw, r.params[f.Name])
		if err != nil {
			*wrong = append(*wrong, fmt.Sprintf("params.%s must be a %s", f.Name, f.Type))
			continue
		}
		out[f.Name] = v
	}
	if total > maxParams {
		*wrong = append(*wrong, fmt.Sprintf("params are larger than %d KiB together", maxParams>>10))
	}
	checkNames(slices.Sorted(maps.Keys(c.Params)), r.def.Params, "params", wrong)
	return out
}

// paramValue converts one parameter. A parameter that is not a string may also be a string of
// JSON, because the command line sends strings.
func paramValue(raw []byte, t cty.Type) (cty.Value, error) {
	v, err := parseJSON(raw)
	if err != nil {
		return cty.NilVal, err
	}
	if v.Type() == cty.String && !v.IsNull() && t != cty.String {
		if v, err = parseJSON([]byte(v.AsString())); err != nil {
			return cty.NilVal, err
		}
	}
	if v, err = convert.Convert(v, t); err != nil {
		return cty.NilVal, errJSON
	}
	null := false
	_ = cty.Walk(v, func(_ cty.Path, v cty.Value) (bool, error) {
		null = null || v.IsNull()
		return true, nil
	})
	if null {
		return cty.NilVal, errJSON
	}
	return v, nil
}

// bindAdmin converts the admin credentials to values and teaches the secret ones to the redactor.
func bindAdmin(r *recipe, c rotation.OpenConfig, ev *evaluator, wrong *[]string) map[string]cty.Value {
	out := map[string]cty.Value{}
	for _, f := range r.def.Admin {
		v := c.Admin[f.Name]
		if v.Empty() {
			*wrong = append(*wrong, fmt.Sprintf("admin.%s is required: %s", f.Name, f.Description))
			continue
		}
		if v.Len() > maxParams {
			*wrong = append(*wrong, fmt.Sprintf("admin.%s is larger than %d KiB", f.Name, maxParams>>10))
			continue
		}
		out[f.Name] = cty.StringVal(v.RevealString())
		if f.Secret {
			ev.know(v.RevealString())
			out[f.Name] = out[f.Name].Mark(sensitive)
		}
	}
	checkNames(slices.Sorted(maps.Keys(c.Admin)), r.def.Admin, "admin", wrong)
	return out
}

func checkNames(given []string, fields []rotation.Field, what string, wrong *[]string) {
	var known []string
	for _, f := range fields {
		known = append(known, f.Name)
	}
	var unknown []string
	for _, name := range given {
		if !slices.Contains(known, name) {
			unknown = append(unknown, what+"."+name)
		}
	}
	if n := len(unknown) - maxUnknown; n > 0 {
		unknown = append(unknown[:maxUnknown], fmt.Sprintf("%d more", n))
	}
	if len(unknown) > 0 {
		*wrong = append(*wrong,
			fmt.Sprintf("%s is not known; known are: %s", strings.Join(unknown, ", "), strings.Join(known, ", ")))
	}
}

// originsOf evaluates the allow-list of hosts with the configured parameters.
func originsOf(r *recipe, ev *evaluator, wrong *[]string) (out []outbound.Origin) {
	v, err := ev.value(r.hosts, ev.base.with(newMeter(nil, openSteps)))
	if err == nil {
		v, err = convert.Convert(v, cty.List(cty.String))
	}
	if err != nil || v.IsNull() || !v.IsWhollyKnown() || v.LengthInt() == 0 {
		*wrong = append(*wrong, "hosts is not a list of hosts")
		return nil
	}
	for it := v.ElementIterator(); it.Next(); {
		_, host := it.Element()
		if host.IsNull() {
			*wrong = append(*wrong, "a host is null")
			continue
		}
		origin, err := outbound.ParseOrigin(host.AsString())
		if err != nil {
			*wrong = append(*wrong, fault.Message(err))
			continue
		}
		out = append(out, origin)
	}
	return out
}
