package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A view, routine, trigger or event runs with the rights of its DEFINER. MariaDB drops a user who is one without a word, and
// from then on whatever touches the object fails with error 1449: a trigger makes every write of its table fail. So
// such a user is not dropped while that lasts; it has been locked before. MySQL refuses by itself (error 4006).

// defines are the privileges by which a user can become a DEFINER, as SHOW GRANTS writes them.
var defines = []string{"ALL PRIVILEGES", "CREATE VIEW", "CREATE ROUTINE", "TRIGGER", "EVENT"}

// ofDefiners finds what runs with the rights of its DEFINER, in so far as the session may see it.
const ofDefiners = `SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE DEFINER IN (%[1]s)
UNION ALL SELECT 'view', TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS WHERE SECURITY_TYPE = 'DEFINER' AND DEFINER IN (%[1]s)
UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE SECURITY_TYPE = 'DEFINER' AND DEFINER IN (%[1]s)
UNION ALL SELECT 'event', EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE DEFINER IN (%[1]s)`

// definerError says of what a user is the DEFINER.
type definerError struct{ objects []string }

const namedObjects = 5

func (e *definerError) Error() string { return e.says(func(names string) string { return names }) }

// says is the error's text, with the names of objects as redact has them.
func (e *definerError) says(redact func(names string) string) string {
	shown := e.objects[:min(len(e.objects), namedObjects)]
	text := "the user is the DEFINER of " + redact(strings.Join(shown, ", "))
	if more := len(e.objects) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// indispensable returns the error for a user who is the DEFINER of something. What a user may make is asked first, since
// looking through many tables takes long; revoked says that privileges do not tell any more.
func indispensable(ctx context.Context, s *sql.Conn, name string, hosts []string, revoked bool) error {
	accounts, definers := make([]string, len(hosts)), make([]string, len(hosts))
	for i, host := range hosts {
		accounts[i], definers[i] = text(name)+"@"+text(host), text(name+"@"+host)
	}
	roles, known, err := definingRoles(ctx, s, accounts)
	if err != nil || known && len(roles) == 0 && !revoked {
		return err
	}
	if !known || revoked {
		if roles, err = ownRoles(ctx, s); err != nil {
			return err
		}
	}
	found, err := objectsOf(ctx, s, definers, roles)
	if err != nil || len(found) == 0 {
		return err
	}
	return &definerError{found}
}

// definingRoles are those of accounts and their roles, and so on, that could become a DEFINER or make one of their users one. known
// is false where that may not be looked at.
func definingRoles(ctx context.Context, s *sql.Conn, accounts []string) (defining []string, known bool, err error) {
	const most = 64
	seen := map[string]bool{}
	for queue := accounts; len(queue) > 0; queue = queue[1:] {
		if seen[queue[0]] {
			continue
		}
		if seen[queue[0]] = true; len(seen) > most {
			return nil, false, nil
		}
		lines, err := column(ctx, s, "SHOW GRANTS FOR "+queue[0])
		if number(err) != 0 && !dying(err) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		for _, line := range lines {
			roles, privileges := grant(line)
			queue = append(queue, roles...)
			if slices.ContainsFunc(privileges, func(p string) bool { return slices.Contains(defines, p) }) && !slices.Contains(defining, queue[0]) {
				defining = append(defining, queue[0])
			}
		}
	}
	return defining, true, nil
}

// ownRoles are those that the session may take.
func ownRoles(ctx context.Context, s *sql.Conn) ([]string, error) {
	names, err := column(ctx, s, "SELECT DISTINCT ROLE_NAME FROM information_schema.APPLICABLE_ROLES LIMIT 64")
	if number(err) != 0 && !dying(err) { // a server without roles, or without that table
		return nil, nil
	}
	for i, name := range names {
		names[i] = "`" + strings.ReplaceAll(name, "`", "``") + "`"
	}
	return names, err
}

// grant reads a line of SHOW GRANTS: either roles, in quotes, or privileges. Those on columns have a list behind.
func grant(line string) (roles, privileges []string) {
	rest, ok := strings.CutPrefix(line, "GRANT ")
	switch {
	case !ok:
	case strings.HasPrefix(rest, "`"):
		list, _, _ := strings.Cut(rest, "` TO ")
		for role := range strings.SplitSeq(list, "`,`") {
			roles = append(roles, "`"+strings.Trim(role, "`")+"`")
		}
	default:
		list, _, _ := strings.Cut(rest, " ON ")
		for p := range strings.SplitSeq(list, ",") {
			p, _, _ = strings.Cut(p, "(")
			privileges = append(privileges, strings.TrimSpace(p))
		}
	}
	return roles, privileges
}

// objectsOf looks with the rights of the session and then with those of each role: an administrator who may grant a role can
// take it.
func objectsOf(ctx context.Context, s *sql.Conn, definers, roles []string) ([]string, error) {
	found := map[string]bool{}
	err := asEach(ctx, s, roles, func() error {
		rows, err := s.QueryContext(ctx, fmt.Sprintf(ofDefiners, strings.Join(definers, ", ")))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var kind, schema, object string
			if err := rows.Scan(&kind, &schema, &object); err != nil {
				return err
			}
			found[kind+" "+schema+"."+object] = true
		}
		return rows.Err()
	})
	return slices.Sorted(maps.Keys(found)), err
}

// asEach calls f as the session is, and in each role that it may take. Afterwards it has the role that it had, or is closed.
func asEach(ctx context.Context, s *sql.Conn, roles []string, f func() error) (err error) {
	if err := f(); err != nil || len(roles) == 0 {
		return err
	}
	var had sql.NullString
	switch err := s.QueryRowContext(ctx, "SELECT CURRENT_ROLE()").Scan(&had); {
	case number(err) != 0:
		return nil // a server without roles
	case err != nil:
		return err
	}
	defer func() {
		if _, e := s.ExecContext(ctx, "SET ROLE "+roleName(had)); e != nil || err != nil {
			spend(s)
			err = errors.Join(err, e)
		}
	}()
	for _, role := range roles {
		switch _, err := s.ExecContext(ctx, "SET ROLE "+role); {
		case number(err) != 0:
			continue // not one that it may take
		case err != nil:
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// roleName is what CURRENT_ROLE() says, as SET ROLE takes it. MySQL says it so.
func roleName(r sql.NullString) string {
	switch {
	case !r.Valid || r.String == "NONE":
		return "NONE"
	case strings.HasPrefix(r.String, "`"):
		return r.String
	}
	return "`" + strings.ReplaceAll(r.String, "`", "``") + "`"
}

// column returns the first column of an answer.
func column(ctx context.Context, s *sql.Conn, query string) (all []string, err error) {
	rows, err := s.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, rows.Err()
}
