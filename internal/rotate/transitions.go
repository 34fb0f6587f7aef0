package rotate

import "context"

// A step does the work of one state, and commits. A step makes at most one external call.
// The exception is set, which makes two calls, because only trying the credential shows whether
// setting it worked.
type step func(ctx context.Context, e *Edit) error

// A transition is a row of the table that says which states may follow a state.
type transition struct {
	next []State
	// onFailure is the state that follows when the provider refuses for good or a call fails too
	// often. If onFailure is empty, the call is retried without limit, and an alert calls a
	// person.
	onFailure State
}

var transitions = map[Style]map[State]transition{
	TwoKey: {
		Scheduled:   {next: []State{Creating}},
		Creating:    {next: []State{Settling, Verifying, RollingBack}, onFailure: RollingBack},
		Settling:    {next: []State{Verifying, RollingBack}, onFailure: RollingBack},
		Verifying:   {next: []State{Publishing, Settling, RollingBack}, onFailure: RollingBack},
		Publishing:  {next: []State{Grace, RollingBack}},
		Grace:       {next: []State{Retiring, RollingBack, Grace, Publishing}},
		RollingBack: {next: []State{Grace, Retiring}},
		Retiring:    {next: []State{Grace, Publishing, RollingBack, Done, RolledBack, Failed}},
	},
	InPlace: {
		Scheduled:   {next: []State{Setting}},
		Setting:     {next: []State{RollingBack, Done, RolledBack, Failed}},
		RollingBack: {next: []State{RolledBack, Failed}},
	},
	External: {Scheduled: {next: []State{Done}}}, // by a client's write
}

// first is the state in which a rotation begins.
func (s Style) first() State { return transitions[s][Scheduled].next[0] }
