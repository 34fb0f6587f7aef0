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

// A view, routine, trigger or event runs with the rights of its DEFINER. MariaDB drops a DEFINER
// without a warning. Afterwards each use of the object fails with error 1449; a trigger makes
// every write to its table fail. Therefore a user that is a DEFINER is locked, but not dropped.
// MySQL refuses the drop itself (error 4006).

// definingPrivileges allow a user to become a DEFINER. They are written as in SHOW GRANTS.
var definingPrivileges = []string{"ALL PRIVILEGES", "CREATE VIEW", "CREATE ROUTINE", "TRIGGER", "EVENT"}

// ofDefiners is a query for the objects with a DEFINER that the session may see.
const ofDefiners = `SELECT 'trigger', TRIGGER_SCHEMA, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE DEFINER IN (%[1]s)
UNION ALL SELECT 'view', TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS WHERE SECURITY_TYPE = 'DEFINER' AND DEFINER IN (%[1]s)
UNION ALL SELECT LOWER(ROUTINE_TYPE), ROUTINE_SCHEMA, ROUTINE_NAME FROM information_schema.ROUTINES WHERE SECURITY_TYPE = 'DEFINER' AND DEFINER IN (%[1]s)
UNION ALL SELECT 'event', EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE DEFINER IN (%[1]s)`

// checkDefiner returns an error if a user is the DEFINER of something. It first checks whether the
// privileges of the user allow that, because searching many tables takes long; revoked means that
// they are already revoked.
func checkDefiner(ctx context.Context, s *sql.Conn, name string, hosts []string, revoked bool) error {
	accounts, definers := make([]string, len(hosts)), make([]string, len(hosts))
	for i, host := range hosts {
		accounts[i], definers[i] = quoteText(name)+"@"+quoteText(host), quoteText(name+"@"+host)
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

// definingRoles returns the accounts and their roles, recursively, whose privileges allow them to
// become a DEFINER. known is false if the session may not read the grants.
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
			if slices.ContainsFunc(privileges,
				func(p string) bool { return slices.Contains(definingPrivileges, p) }) &&
				!slices.Contains(defining, queue[0]) {
				defining = append(defining, queue[0])
			}
		}
	}
	return defining, true, nil
}

// ownRoles returns the roles that the session may take.
func ownRoles(ctx context.Context, s *sql.Conn) ([]string, error) {
	names, err := column(ctx, s, "SELECT DISTINCT ROLE_NAME FROM information_schema.APPLICABLE_ROLES LIMIT 64")
	if number(err) != 0 && !dying(err) { // the server has no roles, or not that table
		return nil, nil
	}
	for i, name := range names {
		names[i] = "`" + strings.ReplaceAll(name, "`", "``") + "`"
	}
	return names, err
}

// grant parses a line of SHOW GRANTS: quoted roles, or privileges. A privilege on columns is
// followed by a list.
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

// objectsOf searches with the rights of the session and then with those of each role, because an
// administrator that may grant a role can take it.
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

// asEach calls f with the current role of the session and with each role that it may take.
// Afterwards the session has its old role, or is closed.
func asEach(ctx context.Context, s *sql.Conn, roles []string, f func() error) (err error) {
	if err := f(); err != nil || len(roles) == 0 {
		return err
	}
	var current sql.NullString
	switch err := s.QueryRowContext(ctx, "SELECT CURRENT_ROLE()").Scan(&current); {
	case number(err) != 0:
		return nil // the server has no roles
	case err != nil:
		return err
	}
	defer func() {
		if _, e := s.ExecContext(ctx, "SET ROLE "+roleName(current)); e != nil || err != nil {
			discard(s)
			err = errors.Join(err, e)
		}
	}()
	for _, role := range roles {
		switch _, err := s.ExecContext(ctx, "SET ROLE "+role); {
		case number(err) != 0:
			continue // the session may not take it
		case err != nil:
			return err
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// roleName converts the answer of CURRENT_ROLE() for SET ROLE. MySQL quotes its answer, MariaDB
// does not.
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
