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

// Limits on the steps of expressions. A step is one evaluation of a part of an expression, or one
// value or 64 bytes of the input of a function. A step takes about 200 ns, and 3 µs at worst.
const (
	parseSteps = 300_000   // of reading one recipe
	openSteps  = 300_000   // of binding one
	callSteps  = 2_000_000 // of one call, with all items of its reply
	knowSteps  = 10_000    // of a text that a secret went into: errors are searched for each
	errorSteps = 1_000     // of a part that fails: a loop goes on, and keeps what each round complains of
	stopEvery  = 1_000     // steps between two looks whether anybody waits
)

var errSteps = errors.New("the expressions take too many steps; let them go over shorter lists, and over each once")

// A meter counts the steps of expressions. The meter ends an evaluation that takes too many steps
// or that nobody waits for any more. Only one goroutine may use a meter at a time.
type meter struct {
	left, next int          // next: what left is when stop is asked again
	stop       func() error // nil: never
	err        error        // why it has ended
}

// meterName is the variable that holds the meter. An expression cannot refer to it.
const meterName = "\x00meter"

var meterType = cty.Capsule("meter", reflect.TypeFor[meter]())

// newMeter returns a scope that holds a new meter. The meter stops when ctx ends. If ctx is nil,
// only the number of steps limits the meter.
func newMeter(ctx context.Context, steps int) scope {
	m := &meter{left: steps, next: steps}
	if ctx != nil {
		m.stop = ctx.Err
	}
	return scope{meterName: cty.CapsuleVal(meterType, m)}
}

// meter returns the meter of the scope, which must have one.
func (s scope) meter() *meter { return s[meterName].EncapsulatedValue().(*meter) }

// meterIn returns the meter of the scope in which an evaluation began. meterIn returns nil for
// constants, which are evaluated without a scope.
func meterIn(ctx *hcl.EvalContext) *meter {
	for ; ctx != nil; ctx = ctx.Parent() {
		if v, ok := ctx.Variables[meterName]; ok {
			return v.EncapsulatedValue().(*meter)
		}
	}
	return nil
}

// charge subtracts steps, and ends the evaluation with a panic if none are left.
func (m *meter) charge(steps int) {
	if m == nil {
		return
	}
	if err := m.spend(steps); err != nil {
		panic(metered{err})
	}
}

// spend subtracts steps, and returns the reason if the meter has ended.
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

// weigh charges for a value that is about to be read as a whole, and refuses numbers that are too
// long to print.
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

// failure returns the reason why the meter ended the evaluation, as an error for people. failure
// returns nil if the meter did not end it.
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

// metered is the panic value with which a meter ends an evaluation. An error would not end it,
// because HCL continues a loop whose body has failed.
type metered struct{ err error }

// A meteredExpr is a part of an expression that is charged for at each evaluation. The meteredExpr
// holds the part in parentheses, so that a walk over the expression still sees the part.
type meteredExpr struct {
	hclsyntax.Expression
	cost int  // of it and of its parts, outside of which other metered ones are
	read bool // its value is read as a whole
}

// Value charges for the part and evaluates it.
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

// each meters a part that is evaluated once for each element of a collection.
func each(e hclsyntax.Expression) hclsyntax.Expression { return wrapped(e, true, false) }

// operand meters a part whose value is read as a whole by a function or an operator. A function
// such as try evaluates the part several times.
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

// bare returns an expression as it was before it was metered.
func bare(e hcl.Expression) hcl.Expression {
	if m, ok := e.(*meteredExpr); ok {
		return m.Expression.(*hclsyntax.ParenthesesExpr).Expression
	}
	return e
}

// A meterer meters an expression in place. The meterer implements [hclsyntax.Walker].
type meterer struct{}

// Enter does nothing. Exit meters a node after its children, so that the cost of a part includes
// them.
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
