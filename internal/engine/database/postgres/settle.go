package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine/database"
	"github.com/keyturn/keyturn/internal/fault"
)

// Limit and interval of waiting for sessions to end. A session checks for its termination within
// milliseconds unless it hangs in the kernel.
const (
	endWait = time.Second
	endLook = 20 * time.Millisecond
)

// SettleAttempt ends the sessions that run the attempt. If none is left and the server's clock is
// past the deadline, the attempt can have no effect any more.
func (c *conn) SettleAttempt(ctx context.Context, a database.Attempt) (settled bool, err error) {
	k := c.call("SettleAttempt", "settling the attempt")
	if !a.Valid() {
		return false, database.MarkUnchanged(fault.New(k.op, fault.Invalid,
			"the attempt has no deadline or no valid id; the reservation must give both"))
	}
	late := fmt.Sprintf("SELECT pg_catalog.clock_timestamp() >= %s::pg_catalog.timestamptz, "+standby,
		quoteText(instant(a.Deadline)))
	err = c.runRepeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
		// The clock is read first, because a session that starts afterwards is too late.
		rows, err := query(ctx, s, late)
		switch {
		case err != nil:
			return err
		case rows[0][1] == "t":
			return errStandby
		}
		gone, _, err := endSessions(ctx, s, "application_name = "+quoteText(sessionName(a.ID)))
		settled = gone && singleValue(rows) == "t"
		return err
	})
	if err != nil {
		return false, k.explain(0, err)
	}
	return settled, nil
}

// endSessions ends the sessions that match a condition on pg_stat_activity and waits until they
// are gone, but at most endWait. It returns whether none is left, and how many there were.
func endSessions(ctx context.Context, s *pgconn.PgConn, condition string) (gone bool, ended int, err error) {
	sql := "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE pid <> " +
		"pg_catalog.pg_backend_pid() AND " + condition
	seen := map[string]bool{}
	for until := time.Now().Add(endWait); ; {
		rows, err := query(ctx, s, sql)
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
		if !cron.Pause(ctx, endLook) {
			return false, len(seen), ctx.Err()
		}
	}
}
