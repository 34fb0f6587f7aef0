package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// taken is the result of dissolve: what it did, and what it could not do.
type taken struct {
	notes []string
	left  []string
}

// dissolve removes everything that prevents a role from being dropped, as far as the administrator
// may, in one transaction. It reassigns objects to the administrator and never deletes them; it
// revokes privileges and memberships in every schema of this database. A step that is not allowed
// is recorded, and the other steps continue; the statements that run afterwards decide whether it
// mattered.
func (c *conn) dissolve(ctx context.Context, name string) (taken, error) {
	var t taken
	err := c.inTurn(ctx, func(lock string) error {
		return c.runRepeatable(ctx, func(ctx context.Context, s *pgconn.PgConn) error {
			if lock == "" && c.runner.serialized() {
				return errSerialized
			}
			t = taken{}
			d := dissolution{session: s, name: name, taken: &t, quote: c.admin.Scrub}
			return d.run(ctx, lock)
		})
	})
	return t, err
}

// A dissolution is one run of dissolve.
type dissolution struct {
	session *pgconn.PgConn
	name    string
	taken   *taken
	quote   func(string) string // redacts texts of the server for notes
	facts
}

// facts describe the role and the administrator.
type facts struct {
	oid       string
	me        string // current_user
	super     bool   // the administrator is a superuser
	rights    bool   // the administrator has the privileges of the role
	elsewhere string // other databases in which the role has privileges or objects
}

func (d *dissolution) run(ctx context.Context, lock string) error {
	_, err := send(ctx, d.session, "BEGIN; "+lock+"SET LOCAL search_path = pg_catalog, pg_temp")
	if err == nil {
		err = d.steps(ctx)
	}
	end := "COMMIT"
	if err != nil {
		end = "ROLLBACK"
	}
	if d.session.IsClosed() {
		return err
	}
	if _, e := send(ctx, d.session, end); e != nil {
		return errors.Join(err, e)
	}
	return err
}

func (d *dissolution) steps(ctx context.Context) error {
	if there, err := d.look(ctx); err != nil || !there {
		return err
	}
	if err := d.memberships(ctx); err != nil {
		return err
	}
	if !d.super && !d.rights {
		if _, err := d.try(ctx, "GRANT "+ident(d.name)+" TO CURRENT_USER",
			"membership in the user, which is needed for its objects"); err != nil {
			return err
		}
	}
	if err := d.objects(ctx); err != nil {
		return err
	}
	if err := d.privileges(ctx); err != nil {
		return err
	}
	if d.elsewhere != "" {
		d.taken.left = append(d.taken.left,
			"the user has privileges or objects in other databases of the server: "+d.quote(d.elsewhere)+
				"; revoke them there, or configure a connection for that database")
	}
	return nil
}

// try runs one step. If the server refuses the step, try undoes it and records it as what. It
// returns errors that are not about the step.
func (d *dissolution) try(ctx context.Context, sql, what string) (ok bool, err error) {
	_, err = send(ctx, d.session, "SAVEPOINT step; "+sql+"; RELEASE SAVEPOINT step")
	if err == nil {
		return true, nil
	}
	if sqlState(err) == "" || collided(err) || readOnly(err) || d.session.IsClosed() {
		return false, err
	}
	pg, _ := errors.AsType[*pgconn.PgError](err)
	d.taken.left = append(d.taken.left, fmt.Sprintf("could not take away %s: %s", what, verdict(pg)))
	_, err = send(ctx, d.session, "ROLLBACK TO SAVEPOINT step; RELEASE SAVEPOINT step")
	return false, err
}

func (d *dissolution) look(ctx context.Context) (there bool, err error) {
	rows, err := query(ctx, d.session, `
SELECT r.oid, current_user, m.rolsuper, pg_has_role(current_user, r.oid, 'USAGE'),
  coalesce((SELECT string_agg(DISTINCT quote_ident(b.datname), ', ') FROM pg_shdepend s JOIN pg_database b ON b.oid = s.dbid
    WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid AND b.datname <> current_database()), '')
FROM pg_roles r, pg_roles m WHERE r.rolname = `+quoteText(d.name)+` AND m.rolname = current_user`)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	row := rows[0]
	d.facts = facts{oid: row[0], me: row[1], super: row[2] == "t", rights: row[3] == "t", elsewhere: row[4]}
	return true, nil
}

// memberships removes the role from its groups. Dropping the role would also do that, but as long
// as the role is a member of the administrator's role, the administrator cannot become a member of
// it.
func (d *dissolution) memberships(ctx context.Context) error {
	rows, err := query(ctx, d.session, `
SELECT DISTINCT g.rolname FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid WHERE a.member = `+d.oid)
	if err != nil {
		return err
	}
	for _, row := range rows {
		ok, err := d.try(ctx, "REVOKE "+ident(row[0])+" FROM "+ident(d.name), "membership in "+d.quote(row[0]))
		if err != nil {
			return err
		}
		if ok {
			d.taken.notes = append(d.taken.notes, "revoked the user's membership in "+d.quote(row[0]))
		}
	}
	return nil
}

// objects reassigns what the role owns to the administrator. DROP OWNED, which would delete
// objects, runs directly afterwards, when it only revokes privileges.
func (d *dissolution) objects(ctx context.Context) error {
	rows, err := query(ctx, d.session, `
SELECT count(*) FILTER (WHERE deptype = 'o'), count(*) FILTER (WHERE deptype <> 'o') FROM pg_shdepend
WHERE refclassid = 'pg_authid'::regclass AND refobjid = `+d.oid+` AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	if err != nil || len(rows) == 0 {
		return err
	}
	owned, granted := rows[0][0], rows[0][1]
	sql := "DROP OWNED BY " + ident(d.name)
	if owned != "0" {
		sql = "REASSIGN OWNED BY " + ident(d.name) + " TO CURRENT_USER; " + sql
	}
	ok, err := d.try(ctx, sql, "what the user owns and may, in one go")
	if err != nil || !ok {
		return err
	}
	if n, _ := strconv.Atoi(owned); n > 0 {
		d.taken.notes = append(d.taken.notes, fmt.Sprintf("handed %d objects that the user owned to %s",
			n, d.quote(d.me)))
	}
	if granted != "0" {
		d.taken.notes = append(d.taken.notes, "revoked the user's privileges on "+d.quote(granted)+" objects")
	}
	return nil
}

// grants finds the privileges that the role still has, each with its grantor, because only the
// grantor can revoke it. A REVOKE of a superuser counts as the owner's.
const grants = `
WITH d AS (SELECT classid, objid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = %[1]s AND deptype = 'a'
  AND dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))),
g AS (
  SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || format('%%I.%%I', n.nspname, c.relname) AS what, a.grantor, a.grantee
    FROM d JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid JOIN pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT * FROM aclexplode(c.relacl) UNION ALL SELECT x.* FROM pg_attribute t, aclexplode(t.attacl) x WHERE t.attrelid = c.oid AND NOT t.attisdropped) a
  UNION ALL SELECT 'SCHEMA ' || quote_ident(n.nspname), a.grantor, a.grantee
    FROM d JOIN pg_namespace n ON d.classid = 'pg_namespace'::regclass AND n.oid = d.objid, aclexplode(n.nspacl) a
  UNION ALL SELECT 'DATABASE ' || quote_ident(b.datname), a.grantor, a.grantee
    FROM d JOIN pg_database b ON d.classid = 'pg_database'::regclass AND b.oid = d.objid, aclexplode(b.datacl) a
  UNION ALL SELECT 'ROUTINE ' || p.oid::regprocedure, a.grantor, a.grantee
    FROM d JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid, aclexplode(p.proacl) a
  UNION ALL SELECT 'LANGUAGE ' || quote_ident(l.lanname), a.grantor, a.grantee
    FROM d JOIN pg_language l ON d.classid = 'pg_language'::regclass AND l.oid = d.objid, aclexplode(l.lanacl) a
  UNION ALL SELECT 'TYPE ' || t.oid::regtype, a.grantor, a.grantee
    FROM d JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid, aclexplode(t.typacl) a
  UNION ALL SELECT 'LARGE OBJECT ' || o.oid, a.grantor, a.grantee
    FROM d JOIN pg_largeobject_metadata o ON d.classid = 'pg_largeobject'::regclass AND o.oid = d.objid, aclexplode(o.lomacl) a
  UNION ALL SELECT 'FOREIGN DATA WRAPPER ' || quote_ident(w.fdwname), a.grantor, a.grantee
    FROM d JOIN pg_foreign_data_wrapper w ON d.classid = 'pg_foreign_data_wrapper'::regclass AND w.oid = d.objid, aclexplode(w.fdwacl) a
  UNION ALL SELECT 'FOREIGN SERVER ' || quote_ident(v.srvname), a.grantor, a.grantee
    FROM d JOIN pg_foreign_server v ON d.classid = 'pg_foreign_server'::regclass AND v.oid = d.objid, aclexplode(v.srvacl) a
  UNION ALL SELECT 'TABLESPACE ' || quote_ident(s.spcname), a.grantor, a.grantee
    FROM d JOIN pg_tablespace s ON d.classid = 'pg_tablespace'::regclass AND s.oid = d.objid, aclexplode(s.spcacl) a
)
SELECT DISTINCT 'REVOKE ALL ON ' || what || ' FROM %[2]s CASCADE', what, r.rolname FROM g JOIN pg_roles r ON r.oid = g.grantor WHERE g.grantee = %[1]s
UNION ALL
SELECT 'ALTER DEFAULT PRIVILEGES FOR ROLE ' || quote_ident(r.rolname) || coalesce(' IN SCHEMA ' || quote_ident(n.nspname), '') || ' REVOKE ALL ON '
    || CASE f.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' ELSE 'SCHEMAS' END || ' FROM %[2]s',
    'default privileges of ' || r.rolname, r.rolname
  FROM d JOIN pg_default_acl f ON d.classid = 'pg_default_acl'::regclass AND f.oid = d.objid
    JOIN pg_roles r ON r.oid = f.defaclrole LEFT JOIN pg_namespace n ON n.oid = f.defaclnamespace`

// privileges revokes what is still granted to the role, in the name of each grantor.
func (d *dissolution) privileges(ctx context.Context) error {
	rows, err := query(ctx, d.session, fmt.Sprintf(grants, d.oid, strings.ReplaceAll(ident(d.name), "'", "''")))
	if err != nil {
		return err
	}
	revoked := 0
	for _, row := range rows {
		revoke, what, grantor := row[0], row[1], row[2]
		if grantor != d.me {
			revoke = "SET LOCAL ROLE " + ident(grantor) + "; " + revoke + "; RESET ROLE"
		}
		ok, err := d.try(ctx, revoke, "privileges on "+what+" that "+grantor+" granted")
		if err != nil {
			return err
		}
		if ok {
			revoked++
		}
	}
	if revoked > 0 {
		d.taken.notes = append(d.taken.notes,
			fmt.Sprintf("revoked the user's privileges on %d objects, as those who had granted them", revoked))
	}
	return nil
}
