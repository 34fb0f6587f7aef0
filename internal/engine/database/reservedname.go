package database

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// reservedRows are the names that a template generates again and again, each with the attempt that
// reserved it: <connection's id>/<user>. A random name needs no reservation, because no other
// attempt generates it.
//
// Without the reservation, undoing an attempt that died before it reached the database would drop
// the user of another lease with the same name.
const reservedRows engine.Rows[nameReservation] = "taken/"

// A nameReservation gives a name to one attempt.
type nameReservation struct {
	Attempt string    `json:"attempt"`
	Until   time.Time `json:"until"` // after which its create can have no effect any more
}

// reservedAfterDeadline is how long after its deadline a create may still take effect, to allow
// for the clocks of two machines.
const reservedAfterDeadline = time.Minute

func reservedName(l *issuedUser) string { return l.Config + "/" + l.User }

// reservedNames stores the names that templates generate again.
type reservedNames struct{ m *engine.Mount }

// reserve gives the name to the attempt, if neither a user of the database nor another attempt has
// it. It comes before the create, so that every created name is reserved.
func (s *reservedNames) reserve(ctx context.Context, conn Conn, l *issuedUser, a Attempt) error {
	const op = "database.reserve"
	if !l.Repeats {
		return nil
	}
	exists, err := conn.Exists(ctx, l.User)
	if err != nil {
		return NotStarted(op, err)
	}
	owner, version, err := s.owner(ctx, l)
	if err != nil {
		return NotStarted(op, err)
	}
	if owner.Attempt == a.ID {
		return nil
	}
	// A reservation without a user was left by a lease that an operator has removed by force.
	if exists || !time.Now().After(owner.Until) {
		return MarkUnchanged(fault.New(op, fault.Invalid, "there is a user %s already, and the template produces "+
			"the same name again; put {{random 20}} into it, or wait until that user's lease ends", l.User))
	}
	row, err := reservedRows.Set(reservedName(l),
		nameReservation{Attempt: a.ID, Until: a.Deadline.Add(reservedAfterDeadline)})
	if err != nil {
		return NotStarted(op, err)
	}
	_, err = s.m.Store.Commit(ctx, row.If(version))
	if fault.Is(err, fault.Conflict) {
		return MarkUnchanged(fault.New(op, fault.Invalid, "another request creates the user %s at this moment, and "+
			"the template produces the same name again; put {{random 20}} into it", l.User))
	}
	return err // not marked as unchanged: the reservation may be stored, and undo must look
}

// owner returns the reservation of a name; the zero value if there is none.
func (s *reservedNames) owner(ctx context.Context, l *issuedUser) (n nameReservation, version storage.Version,
	err error) {
	stored, version, err := reservedRows.Get(ctx, s.m.Store, reservedName(l))
	if stored != nil {
		n = *stored
	}
	return n, version, err
}

// release frees the name of an attempt whose user is gone. Repeatable.
func (s *reservedNames) release(ctx context.Context, l *issuedUser, attempt string) error {
	if !l.Repeats {
		return nil
	}
	owner, version, err := s.owner(ctx, l)
	if err != nil || owner.Attempt != attempt {
		return err
	}
	_, err = s.m.Store.Commit(ctx, storage.Remove(reservedRows.Key(reservedName(l))).If(version))
	if fault.Is(err, fault.Conflict) {
		return nil // another attempt has reserved it meanwhile
	}
	return err
}

// ownedByOther reports whether the user of an undo belongs to another attempt, which must keep it.
// While the attempt of the undo may still reserve the name, Undone asks for another call.
func (s *reservedNames) ownedByOther(ctx context.Context, u engine.Undo, l *issuedUser) (bool, engine.Undone, error) {
	if !l.Repeats {
		return false, engine.Undone{}, nil
	}
	owner, _, err := s.owner(ctx, l)
	if err != nil || owner.Attempt == u.Attempt {
		return false, engine.Undone{}, err
	}
	if !u.Granted && time.Now().Before(u.Late) {
		return true, engine.Undone{Again: u.Late}, nil
	}
	return true, engine.Undone{}, nil
}
