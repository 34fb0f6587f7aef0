package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/keyturn/keyturn/internal/engine/database"
)

// noticed is where a session keeps what the server warned of since the last message began.
const noticed = "keyturn warnings"

const (
	mostWarnings   = 10
	longestWarning = 300
)

// onNotice remembers warnings. NOTICEs, of which IF EXISTS makes many, are not.
func onNotice(s *pgconn.PgConn, n *pgconn.Notice) {
	if n.SeverityUnlocalized != "WARNING" {
		return
	}
	all, _ := s.CustomData()[noticed].([]string)
	text := fmt.Sprintf("PostgreSQL warns: %s (SQLSTATE %s)", n.Message[:min(len(n.Message), longestWarning)], n.Code)
	if n.Code == "01007" {
		text += "; the administrator needs what it grants WITH GRANT OPTION"
	}
	if text = strings.ToValidUTF8(text, ""); len(all) < mostWarnings && !slices.Contains(all, text) {
		s.CustomData()[noticed] = append(all, text)
	}
}

// warnings are those of the last message.
func warnings(s *pgconn.PgConn) []string {
	all, _ := s.CustomData()[noticed].([]string)
	return all
}

// pass tells whoever listens to a call of warnings.
func (k call) pass(ctx context.Context, warnings []string) {
	for _, text := range warnings {
		database.Warn(ctx, k.scrub(text))
	}
}
