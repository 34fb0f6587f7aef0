package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// How long ending sessions is waited for: they end when they next look, which
// takes milliseconds unless they hang in the kernel.
const (
	endWait = time.Second
	endLook = 20 * time.Millisecond
)

// SettleAttempt ends the sessions that run the attempt. None left, at a time
// when the server's clock has passed the deadline, means that none comes.
func (c *conn) SettleAttempt(ctx context.Context, a database.Attempt) (settled bool, err error) {
	k := c.call("SettleAttempt", "settling the attempt")
	if !a.Valid() {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Invalid, "the attempt has no deadline or an id that cannot be; the reservation must give both"))
	}
	late := fmt.Sprintf("SELECT pg_catalog.clock_timestamp() >= %s::pg_catalog.timestamptz, "+standby, text(instant(a.Deadline)))
	err = c.repeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		// The clock first: a session that appears after this look was too late.
		rows, err := ask(ctx, s, late)
		switch {
		case err != nil:
			return err
		case rows[0][1] == "t":
			return errStandby
		}
		gone, _, err := endSessions(ctx, s, "application_name = "+text(session(a.ID)))
		settled = gone && one(rows) == "t"
		return err
	})
	if err != nil {
		return false, c.explain(k, 0, err)
	}
	return settled, nil
}

// endSessions ends the sessions that match a condition on pg_stat_activity and
// waits a moment for them to go. It returns whether none is left, and how many there were.
func endSessions(ctx context.Context, s *pgconn.PgConn, condition string) (gone bool, ended int, err error) {
	sql := "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid <> pg_catalog.pg_backend_pid() AND " + condition
	seen := map[string]bool{}
	for until := time.Now().Add(endWait); ; {
		rows, err := ask(ctx, s, sql)
		if err != nil {
			return false, len(seen), err
		}
		for _, row := range rows {
			seen[row[0]] = true
		}
		if len(rows) == 0 {
			return true, len(seen), nil
		}
		if time.Now().After(until) {
			return false, len(seen), nil
		}
		select {
		case <-time.After(endLook):
		case <-ctx.Done():
			return false, len(seen), ctx.Err()
		}
	}
}
