package rotate

import "context"

// A step does what is done in a state, and commits. It makes at most one call to the outside; set
// makes two, because only trying the credential tells what became of setting it.
type step func(ctx context.Context, e *Edit) error

// A transition is a row of the table that says where a state may lead.
type transition struct {
	next []State
	// gives is where a rotation goes when the provider refuses for good or too
	// often; "": it is retried for as long as it takes, and a person is called.
	gives State
}

var transitions = map[Style]map[State]transition{
	TwoKey: {
		Scheduled:   {next: []State{Creating}},
		Creating:    {next: []State{Settling, Verifying, RollingBack}, gives: RollingBack},
		Settling:    {next: []State{Verifying, RollingBack}, gives: RollingBack},
		Verifying:   {next: []State{Publishing, Settling, RollingBack}, gives: RollingBack},
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
}

// first is the state in which a rotation begins.
func (s Style) first() State { return transitions[s][Scheduled].next[0] }
