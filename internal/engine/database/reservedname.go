package database

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// reservedPrefix is where names are kept that a template makes again and again, each with the attempt that has it:
// takenPrefix + connection's id + "/" + user. An attempt whose name is random has none, because no other makes it.
//
// Without that row, the undo of an attempt that died before it reached the database would drop the user of
// the lease that has the name.
const reservedPrefix = "taken/"

// A reservation name belongs to one attempt.
type reservation struct {
	Attempt string    `json:"attempt"`
	Until   time.Time `json:"until"` // after which its create can have no effect any more
}

// reservedAfterDeadline is how long after its deadline a create is taken to be able to land, whatever the clocks of two machines say.
const reservedAfterDeadline = time.Minute

func reservedKey(l *issuedUser) string { return reservedPrefix + l.Config + "/" + l.User }

// repeating keeps the names that templates make again.
type repeating struct{ *backend }

// takes gives the name to the attempt, if nobody has it: no user of the database, and no other attempt. It comes before the
// create, so that what is not noted was not created.
func (b repeating) takes(ctx context.Context, conn Conn, l *issuedUser, a Attempt) error {
	if !l.Repeats {
		return nil
	}
	there, err := conn.Exists(ctx, l.User)
	if err != nil {
		return nothingCreated(err)
	}
	has, version, err := b.hasName(ctx, l)
	if err != nil {
		return nothingCreated(err)
	}
	if has.Attempt == a.ID {
		return nil
	}
	// A row whose user is not there was left by a lease that an operator has forgotten.
	if there || !time.Now().After(has.Until) {
		return MarkUnchanged(fault.New("database.takes", fault.Invalid, "there is a user %s already, and the template makes the same name again; put {{random 20}} into it, or wait until that user's lease ends", l.User))
	}
	text, err := json.Marshal(reservation{a.ID, a.Deadline.Add(reservedAfterDeadline)})
	if err != nil {
		return nothingCreated(err)
	}
	_, err = b.m.Store.Commit(ctx, storage.Set(reservedKey(l), text).If(version))
	if fault.Is(err, fault.Conflict) {
		return MarkUnchanged(fault.New("database.takes", fault.Invalid, "another request creates the user %s at this moment, and the template makes the same name again; put {{random 20}} into it", l.User))
	}
	return err // it may be stored: undoing looks
}

// nothingCreated says of any error that the database was not asked to create anything.
func nothingCreated(err error) error {
	return MarkUnchanged(&fault.Error{Op: "database.takes", Kind: fault.KindOf(err), Msg: fault.Message(err), Err: err})
}

// hasName is who has a name; the zero value for nobody.
func (b repeating) hasName(ctx context.Context, l *issuedUser) (t reservation, version storage.Version, err error) {
	e, err := b.m.Store.Get(ctx, reservedKey(l))
	if err != nil || e.Version == 0 {
		return t, 0, err
	}
	return t, e.Version, fault.Wrap("database.hasName", fault.Internal, json.Unmarshal(e.Value, &t))
}

// leaves frees the name of an attempt that has no user any more. Repeatable.
func (b repeating) leaves(ctx context.Context, l *issuedUser, attempt string) error {
	if !l.Repeats {
		return nil
	}
	has, version, err := b.hasName(ctx, l)
	if err != nil || has.Attempt != attempt {
		return err
	}
	_, err = b.m.Store.Commit(ctx, storage.Remove(reservedKey(l)).If(version))
	if fault.Is(err, fault.Conflict) {
		return nil // another attempt has it by now
	}
	return err
}

// others reports whether the user of an undo is not its attempt's to drop. Until the attempt's time is over, it is asked again,
// because the attempt may still take the name.
func (b repeating) others(ctx context.Context, u engine.Undo, l *issuedUser) (bool, engine.Undone, error) {
	if !l.Repeats {
		return false, engine.Undone{}, nil
	}
	has, _, err := b.hasName(ctx, l)
	if err != nil || has.Attempt == u.Attempt {
		return false, engine.Undone{}, err
	}
	if !u.Granted && time.Now().Before(u.Late) {
		return true, engine.Undone{Again: u.Late}, nil
	}
	return true, engine.Undone{}, nil
}
