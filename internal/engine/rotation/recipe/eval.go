package recipe

import (
	"context"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
)

// An evaluator evaluates expressions with the values that one source is bound to. cty values hold
// plaintext, so they stay inside one call.
type evaluator struct {
	base     scope // "param" and "admin"
	redactor *secret.Redactor
}

// vars returns the variables of one call's expressions. All expressions of the call together take
// at most callSteps steps, and they stop when ctx ends.
func (ev *evaluator) vars(ctx context.Context, more scope) scope {
	return ev.base.with(newMeter(ctx, callSteps)).with(
		scope{"now": cty.StringVal(time.Now().UTC().Format(time.RFC3339))}).with(more)
}

// value evaluates an expression and removes the marks from the result. The redactor learns every
// text in the result that was computed from a secret.
func (ev *evaluator) value(e hcl.Expression, vars scope) (cty.Value, error) {
	marked, diags := evaluated(e, vars)
	if err := vars.meter().failure(e.Range()); err != nil {
		return cty.NilVal, err
	}
	if diags.HasErrors() {
		return cty.NilVal, ev.evalError(e, diags)
	}
	v, marks := marked.UnmarkDeepWithPaths()
	for _, m := range marks {
		part, err := m.Path.Apply(v)
		if err != nil {
			part = v
		}
		eachString(part, func(text string) {
			if vars.meter().spend(knowSteps) == nil {
				ev.know(text)
			}
		})
	}
	if err := vars.meter().failure(e.Range()); err != nil {
		return cty.NilVal, err
	}
	if !v.IsWhollyKnown() {
		return cty.NilVal,
			fault.New("recipe.eval", fault.Invalid, "%s: the expression has no value; check the names in it",
				position(e.Range()))
	}
	return v, nil
}

// evaluated is e.Value without panics, because cty may print a value in the message of a panic.
// The scope must have a meter.
func evaluated(e hcl.Expression, vars scope) (v cty.Value, diags hcl.Diagnostics) {
	defer func() {
		r := recover()
		summary := "The expression cannot be evaluated"
		if m, ok := r.(meterPanic); ok {
			summary = "The expression cannot be evaluated: " + m.err.Error()
		}
		if err := vars.meter().err; err != nil { // even if try discarded it
			r, summary = err, "The expression cannot be evaluated: "+err.Error()
		}
		if r != nil {
			v, diags = cty.DynamicVal, hcl.Diagnostics{{Severity: hcl.DiagError, Summary: summary,
				Subject: e.Range().Ptr()}}
		}
	}()
	return e.Value(&hcl.EvalContext{Variables: vars, Functions: functions})
}

var escape = regexp.MustCompile(`%[0-9A-F]{2}`)

// know teaches a text to the redactor, also in encodings that the redactor does not derive: spaces
// as %20, escapes in lower case, and JSON with escaped slashes.
func (ev *evaluator) know(text string) {
	spaced := strings.ReplaceAll(url.QueryEscape(text), "+", "%20")
	for _, form := range []string{text, spaced, strings.ReplaceAll(text, "/", `\/`)} {
		ev.redactor.Know(secret.Text(form))
	}
	for _, form := range []string{spaced, url.QueryEscape(text), url.PathEscape(text)} {
		ev.redactor.Know(secret.Text(escape.ReplaceAllStringFunc(form, strings.ToLower)))
	}
}

// quotable lists the summaries of diagnostics whose detail quotes the recipe and never a value.
var quotable = []string{"Unsupported attribute", "Attempt to get attribute from null value",
	"Attempt to index null value", "Invalid index", "Unknown variable"}

// evalError returns an error with the position of the failure, and with the reason if the reason
// quotes no value. A quoted reason passes through the redactor, because an index can be computed
// from a secret.
func (ev *evaluator) evalError(e hcl.Expression, diags hcl.Diagnostics) error {
	d := diags[slices.IndexFunc(diags, func(d *hcl.Diagnostic) bool { return d.Severity == hcl.DiagError })]
	at := e.Range()
	if d.Subject != nil {
		at = *d.Subject
	}
	text := d.Summary
	if slices.Contains(quotable, d.Summary) && d.Detail != "" {
		text += ": " + ev.redactor.Scrub(strings.ReplaceAll(clip(d.Detail), "\n", " "))
	}
	return fault.New("recipe.eval", fault.Invalid, "%s: %s", position(at), text)
}

// text evaluates an expression to a string. ok is false if the expression is missing or null.
func (ev *evaluator) text(e hcl.Expression, vars scope) (out string, ok bool, err error) {
	if e == nil {
		return "", false, nil
	}
	v, err := ev.value(e, vars)
	if err != nil {
		return "", false, err
	}
	if out, ok, err = text(v); err != nil {
		return "", false,
			fault.New("recipe.eval", fault.Invalid, "%s: want a string, got %s", position(e.Range()),
				v.Type().FriendlyName())
	}
	return out, ok, nil
}

// boolean evaluates an expression to a bool. boolean returns unset if the expression is missing or
// null.
func (ev *evaluator) boolean(e hcl.Expression, vars scope, unset bool) (bool, error) {
	if e == nil {
		return unset, nil
	}
	v, err := ev.value(e, vars)
	if err != nil {
		return false, err
	}
	b, err := convert.Convert(v, cty.Bool)
	if err != nil {
		return false,
			fault.New("recipe.eval", fault.Invalid, "%s: want true or false, got %s", position(e.Range()),
				v.Type().FriendlyName())
	}
	if b.IsNull() {
		return unset, nil
	}
	return b.True(), nil
}

// timestamp evaluates an expression to a time. timestamp returns the zero time for null and "".
func (ev *evaluator) timestamp(e hcl.Expression, vars scope) (time.Time, error) {
	out, ok, err := ev.text(e, vars)
	if err != nil || !ok || out == "" {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339, out)
	if err != nil {
		return time.Time{},
			fault.New("recipe.eval", fault.Invalid, "%s: want an RFC 3339 time; fromunix(…) converts seconds",
				position(e.Range()))
	}
	return t.UTC(), nil
}

// A pair is a name with one value. Several pairs may have the same name.
type pair struct{ name, value string }

// pairs evaluates an object to names and strings, sorted by name. pairs leaves out nulls, and
// makes one pair for each element of a list.
func (ev *evaluator) pairs(e hcl.Expression, vars scope) (out []pair, err error) {
	if e == nil {
		return nil, nil
	}
	v, err := ev.value(e, vars)
	if err != nil {
		return nil, err
	}
	wrong := fault.New("recipe.eval", fault.Invalid, "%s: want an object of strings or lists of strings",
		position(e.Range()))
	if v.IsNull() || !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return nil, wrong
	}
	for it := v.ElementIterator(); it.Next(); {
		name, each := it.Element()
		values := []cty.Value{each}
		if !each.IsNull() && (each.Type().IsTupleType() || each.Type().IsListType()) {
			values = each.AsValueSlice()
		}
		for _, one := range values {
			s, ok, err := text(one)
			if err != nil {
				return nil, wrong
			}
			if ok {
				out = append(out, pair{name.AsString(), s})
			}
		}
	}
	return out, nil
}
