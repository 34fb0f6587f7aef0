package postgres

import (
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// warningsKey is the key of a session's custom data for the warnings of its last message.
const warningsKey = "keyturn warnings"

const (
	maxWarnings      = 10
	maxWarningLength = 300
)

// onNotice records warnings. It ignores NOTICEs, of which IF EXISTS makes many.
func onNotice(s *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized != "WARNING" {
		return
	}
	all, _ := s.CustomData()[warningsKey].([]string)
	text := fmt.Sprintf("PostgreSQL warns: %s (SQLSTATE %s)",
		n.Message[:min(len(n.Message), maxWarningLength)], n.Code)
	if n.Code == "01007" {
		text += "; the administrator needs what it grants WITH GRANT OPTION"
	}
	if text = strings.ToValidUTF8(text, ""); len(all) < maxWarnings && !slices.Contains(all, text) {
		s.CustomData()[warningsKey] = append(all, text)
	}
}

// warnings returns the warnings of the last message.
func warnings(s *pgconn.PgConn) []string {
	all, _ := s.CustomData()[warningsKey].([]string)
	return all
}
