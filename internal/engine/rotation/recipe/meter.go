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
	parseSteps = 300_000   // for parsing one recipe
	openSteps  = 300_000   // for binding one
	callSteps  = 2_000_000 // for one call, with all items of its reply
	knowSteps  = 10_000    // for a text that contains a secret: errors are searched for each
	errorSteps = 1_000     // for a part that fails: a loop continues, and keeps the error of each round
	stopEvery  = 1_000     // steps between two checks whether the context has ended
)

var errSteps = errors.New("the expressions take too many steps; loop over shorter lists, and over each only once")

// A meter counts the steps of expressions. The meter ends an evaluation that takes too many steps
// or whose context has ended. Only one goroutine may use a meter at a time.
type meter struct {
	left, next int          // next is the value of left at which stop is called again
	stop       func() error // nil: never
	err        error        // the reason why the meter has ended
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
		panic(meterPanic{err})
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
		panic(meterPanic{errTooBig})
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
		return fault.New("recipe.eval", fault.Timeout,
			"%s: evaluating the expression took too long; loop over shorter lists", position(at))
	}
	return fault.New("recipe.eval", fault.Unavailable,
		"%s: evaluating the expression was stopped, because the request was cancelled; try again", position(at))
}

// meterPanic is the panic value with which a meter ends an evaluation. An error would not end it,
// because HCL continues a loop whose body has failed.
type meterPanic struct{ err error }

// A meteredExpr is a part of an expression that is charged for at each evaluation. The meteredExpr
// holds the part in parentheses, so that a walk over the expression still sees the part.
type meteredExpr struct {
	hclsyntax.Expression
	cost int  // of the part and of its own parts that are not metered themselves
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

// meterEach meters a part that is evaluated once for each element of a collection.
func meterEach(e hclsyntax.Expression) hclsyntax.Expression { return newMetered(e, true, false) }

// meterOperand meters a part whose value is read as a whole by a function or an operator. A
// function such as try evaluates the part several times.
func meterOperand(e hclsyntax.Expression) hclsyntax.Expression { return newMetered(e, false, true) }

func newMetered(e hclsyntax.Expression, body, read bool) hclsyntax.Expression {
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

// unmetered returns an expression as it was before it was metered.
func unmetered(e hcl.Expression) hcl.Expression {
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
		n.CollExpr, n.KeyExpr, n.ValExpr, n.CondExpr = meterOperand(n.CollExpr), meterEach(n.KeyExpr), meterEach(
			n.ValExpr), meterEach(n.CondExpr)
	case *hclsyntax.SplatExpr:
		n.Source, n.Each = meterOperand(n.Source), meterEach(n.Each)
	case *hclsyntax.FunctionCallExpr:
		for i, arg := range n.Args {
			n.Args[i] = meterOperand(arg)
		}
	case *hclsyntax.BinaryOpExpr:
		n.LHS, n.RHS = meterOperand(n.LHS), meterOperand(n.RHS)
	case *hclsyntax.UnaryOpExpr:
		n.Val = meterOperand(n.Val)
	case *hclsyntax.ConditionalExpr:
		n.TrueResult, n.FalseResult = meterOperand(n.TrueResult), meterOperand(n.FalseResult)
	case *hclsyntax.IndexExpr:
		n.Key = meterOperand(n.Key)
	case *hclsyntax.TemplateExpr:
		for i, part := range n.Parts {
			n.Parts[i] = meterOperand(part)
		}
	case *hclsyntax.ObjectConsKeyExpr:
		if _, name := n.Wrapped.(*hclsyntax.ScopeTraversalExpr); !name {
			n.Wrapped = meterOperand(n.Wrapped)
		}
	}
	return nil
}
