package recipe

import (
	"context"
	"errors"
	"reflect"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/fault"
)

// How many steps expressions may take. A step is the evaluation of a part of an expression, or a
// value or 64 bytes that a function is given: about 200 ns, and 3 µs at worst.
const (
	parseSteps = 300_000   // of reading one recipe
	openSteps  = 300_000   // of binding one
	callSteps  = 2_000_000 // of one call, with all items of its reply
	knowSteps  = 10_000    // of a text that a secret went into: errors are searched for each
	errorSteps = 1_000     // of a part that fails: a loop goes on, and keeps what each round complains of
	stopEvery  = 1_000     // steps between two looks whether anybody waits
)

var errSteps = errors.New("the expressions take too many steps; let them go over shorter lists, and over each once")

// A meter counts the steps of expressions, and ends them where they are too many or nobody waits
// any more. It is used by one goroutine at a time.
type meter struct {
	left, next int          // next: what left is when stop is asked again
	stop       func() error // nil: never
	err        error        // why it has ended
}

// meterName is the variable that holds the meter. No expression can name it.
const meterName = "\x00meter"

var meterType = cty.Capsule("meter", reflect.TypeFor[meter]())

// newMeter makes the variable of a meter that ends with ctx, or never by itself.
func newMeter(ctx context.Context, steps int) scope {
	m := &meter{left: steps, next: steps}
	if ctx != nil {
		m.stop = ctx.Err
	}
	return scope{meterName: cty.CapsuleVal(meterType, m)}
}

// meter is the one of the scope.
func (s scope) meter() *meter { return s[meterName].EncapsulatedValue().(*meter) }

// meterIn finds the meter of an evaluation: that of the scope in which it began. Constants have
// none.
func meterIn(ctx *hcl.EvalContext) *meter {
	for ; ctx != nil; ctx = ctx.Parent() {
		if v, ok := ctx.Variables[meterName]; ok {
			return v.EncapsulatedValue().(*meter)
		}
	}
	return nil
}

// charge takes steps off, and ends the evaluation where none are left.
func (m *meter) charge(steps int) {
	if m == nil {
		return
	}
	if err := m.spend(steps); err != nil {
		panic(metered{err})
	}
}

// spend takes steps off.
func (m *meter) spend(steps int) error {
	m.left -= steps
	if m.err == nil && m.left < 0 {
		m.err = errSteps
	}
	if m.err == nil && m.left <= m.next {
		m.next = m.left - stopEvery
		if m.stop != nil {
			m.err = m.stop()
		}
	}
	return m.err
}

// weigh charges for a value that is about to be read as a whole, and refuses numbers too long to
// be printed.
func (m *meter) weigh(v cty.Value) {
	m.charge(1)
	v, _ = v.Unmark()
	switch {
	case m == nil || v == cty.NilVal || v.IsNull() || !v.IsKnown():
	case !printable(v):
		panic(metered{errTooBig})
	case v.Type() == cty.String:
		m.charge(len(v.AsString()) / 64)
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next(); {
			_, each := it.Element()
			m.weigh(each)
		}
	}
}

// failure is why evaluating ended, as an error for people.
func (m *meter) failure(at hcl.Range) error {
	switch {
	case m == nil || m.err == nil:
		return nil
	case errors.Is(m.err, errSteps):
		return fault.New("recipe.eval", fault.Invalid, "%s: %v", position(at), m.err)
	case errors.Is(m.err, context.DeadlineExceeded):
		return fault.New("recipe.eval", fault.Timeout, "%s: evaluating the expression took too long; let it go over shorter lists", position(at))
	}
	return fault.New("recipe.eval", fault.Unavailable, "%s: evaluating the expression was stopped, because nobody waits for it any more; try again", position(at))
}

// A meteredExpr is a part of an expression that is charged for each time. What it holds is in
// parentheses, so that walks over the expression see what it is.
type meteredExpr struct {
	hclsyntax.Expression
	cost int  // of it and of its parts, outside of which other metered ones are
	read bool // its value is read as a whole
}

// Value charges, and evaluates.
func (e *meteredExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	m := meterIn(ctx)
	m.charge(e.cost)
	v, diags := e.Expression.Value(ctx)
	switch {
	case diags.HasErrors():
		m.charge(errorSteps)
	case e.read:
		m.weigh(v)
	}
	return v, diags
}

// each meters a part that is evaluated once for each element of something.
func each(e hclsyntax.Expression) hclsyntax.Expression { return wrapped(e, true, false) }

// operand meters a part whose value is read as a whole, by a function or an operator. Functions
// such as try evaluate it several times.
func operand(e hclsyntax.Expression) hclsyntax.Expression { return wrapped(e, false, true) }

func wrapped(e hclsyntax.Expression, body, read bool) hclsyntax.Expression {
	switch e.(type) {
	case nil, *meteredExpr:
		return e
	case *hclsyntax.LiteralValueExpr:
		if !body {
			return e
		}
	}
	cost := 1
	if body {
		cost = 0
		_ = hclsyntax.VisitAll(e, func(hclsyntax.Node) hcl.Diagnostics { cost++; return nil })
	}
	return &meteredExpr{&hclsyntax.ParenthesesExpr{Expression: e, SrcRange: e.Range()}, cost, read}
}

// bare is an expression as it was before it was metered.
func bare(e hcl.Expression) hcl.Expression {
	if m, ok := e.(*meteredExpr); ok {
		return m.Expression.(*hclsyntax.ParenthesesExpr).Expression
	}
	return e
}

// A meterer makes an expression one whose evaluation is metered, in place. It is a walker of
// HCL's.
type meterer struct{}

// Enter does nothing: what is within is metered first, so that it counts.
func (meterer) Enter(hclsyntax.Node) hcl.Diagnostics { return nil }

// Exit meters the parts of one node.
func (meterer) Exit(node hclsyntax.Node) hcl.Diagnostics {
	switch n := node.(type) {
	case *hclsyntax.ForExpr:
		n.CollExpr, n.KeyExpr, n.ValExpr, n.CondExpr = operand(n.CollExpr), each(n.KeyExpr), each(n.ValExpr), each(n.CondExpr)
	case *hclsyntax.SplatExpr:
		n.Source, n.Each = operand(n.Source), each(n.Each)
	case *hclsyntax.FunctionCallExpr:
		for i, arg := range n.Args {
			n.Args[i] = operand(arg)
		}
	case *hclsyntax.BinaryOpExpr:
		n.LHS, n.RHS = operand(n.LHS), operand(n.RHS)
	case *hclsyntax.UnaryOpExpr:
		n.Val = operand(n.Val)
	case *hclsyntax.ConditionalExpr:
		n.TrueResult, n.FalseResult = operand(n.TrueResult), operand(n.FalseResult)
	case *hclsyntax.IndexExpr:
		n.Key = operand(n.Key)
	case *hclsyntax.TemplateExpr:
		for i, part := range n.Parts {
			n.Parts[i] = operand(part)
		}
	case *hclsyntax.ObjectConsKeyExpr:
		if _, name := n.Wrapped.(*hclsyntax.ScopeTraversalExpr); !name {
			n.Wrapped = operand(n.Wrapped)
		}
	}
	return nil
}
