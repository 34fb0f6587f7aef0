package database

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/storage"
)

type nameIn struct {
	Name string `path:"name" doc:"The connection's name."`
}

// nonNil returns a list that is never null in an answer.
func nonNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func listNames(ctx context.Context, m *engine.Mount, prefix string) (names []string, err error) {
	for e, err := range m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(e.Key, prefix))
	}
	return names, nil
}
