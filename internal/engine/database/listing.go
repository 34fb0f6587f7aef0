package database

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/internal/storage"
)

type nameIn struct {
	Name string `path:"name" doc:"The connection's name."`
}

// list is in, never null in an answer.
func list(in []string) []string {
	if in == nil {
		return []string{}
	}
	return in
}

func (b *backend) names(ctx context.Context, prefix string) (names []string, err error) {
	for e, err := range b.m.Store.Scan(ctx, prefix, storage.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		names = append(names, strings.TrimPrefix(e.Key, prefix))
	}
	return names, nil
}
