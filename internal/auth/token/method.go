package token

import (
	"github.com/keyturn/keyturn/internal/auth"
)

type method struct{ m *auth.Mount }
