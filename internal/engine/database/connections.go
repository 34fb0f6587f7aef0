package database

import (
	"context"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/secret"
)

// connections reads the stored connections of a mount.
type connections struct {
	m         *engine.Mount
	providers providers
}

// byID returns a connection or its tombstone; nil if there is none.
func (s *connections) byID(ctx context.Context, id string) (*connection, error) {
	row, version, err := connRows.Get(ctx, s.m.Store, id)
	if err != nil || row == nil {
		return nil, err
	}
	c := row.withSecrets()
	c.stored = version
	c.kind, _ = s.providers.find(c.Plugin) // callers that need it report its absence
	return c, nil
}

// withSecrets returns the connection with its secrets.
func (row *storedConnection) withSecrets() *connection {
	c := &row.connection
	c.URL, c.Password, c.Key = secret.New(row.URL), secret.New(row.Password), secret.New(row.Key)
	c.PendingPassword = secret.New(row.PendingPassword)
	for name, text := range row.Hidden {
		if c.Hidden == nil {
			c.Hidden = map[string]secret.Value{}
		}
		c.Hidden[name] = secret.New(text)
	}
	return c
}

// byName returns the current connection of a name; nil if there is none.
func (s *connections) byName(ctx context.Context, name string) (*connection, error) {
	e, err := s.m.Store.Get(ctx, namePrefix+name)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	c, err := s.byID(ctx, string(e.Value))
	if err != nil || c == nil || !c.DeletedAt.IsZero() {
		return nil, err // deleted between the two reads
	}
	return c, nil
}

// names returns the names of all connections that are not deleted.
func (s *connections) names(ctx context.Context) ([]string, error) {
	return s.m.Store.Names(ctx, namePrefix)
}

// provider returns the connection's kind of database.
func (s *connections) provider(c *connection) (*Provider, error) { return s.providers.find(c.Plugin) }

// siblings returns the mount's other connections to the same server as c.
func (s *connections) siblings(ctx context.Context, c *connection) (found []*connection, err error) {
	names, err := s.names(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		other, err := s.byName(ctx, name)
		if err != nil {
			return nil, err
		}
		if other != nil && other.ID != c.ID && other.serverID() == c.serverID() {
			found = append(found, other)
		}
	}
	return found, nil
}
