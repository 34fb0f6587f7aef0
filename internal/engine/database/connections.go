package database

import (
	"context"
	"encoding/json"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/storage"
)

// connections reads the stored connections of a mount.
type connections struct {
	m         *engine.Mount
	providers providers
}

// byID returns a connection or its tombstone; nil if there is none.
func (s *connections) byID(ctx context.Context, id string) (*connection, error) {
	e, err := s.m.Store.Get(ctx, connPrefix+id)
	if err != nil || e.Version == 0 {
		return nil, err
	}
	c, err := decodeConnection(e)
	if err != nil {
		return nil, err
	}
	c.kind, _ = s.providers.find(c.Plugin) // callers that need it report its absence
	return c, nil
}

// decodeConnection reads the row of a connection, without its kind.
func decodeConnection(e storage.Entry) (*connection, error) {
	row := storedConnection{connection: &connection{stored: e.Version}}
	if err := json.Unmarshal(e.Value, &row); err != nil {
		return nil, fault.Wrap("database.byID", fault.Internal, err)
	}
	c := row.connection
	c.URL, c.Password, c.Key = secret.New(row.URL), secret.New(row.Password), secret.New(row.Key)
	c.PendingPassword = secret.New(row.PendingPassword)
	for name, text := range row.Hidden {
		if c.Hidden == nil {
			c.Hidden = map[string]secret.Value{}
		}
		c.Hidden[name] = secret.New(text)
	}
	return c, nil
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
	return listNames(ctx, s.m, namePrefix)
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
