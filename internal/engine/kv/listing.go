package kv

import (
	"context"
	"strings"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/storage"
)

// listIn is the request for a list, or a page of it.
type listIn struct {
	Path  string `path:"path" doc:"The folder."`
	After string `json:"after" doc:"Start after this name."`
	Limit int    `json:"limit" default:"all" doc:"How many names to return at most."`
}

// pathIn is the request for one secret.
type pathIn struct {
	Path string `path:"path" doc:"The secret's path."`
}

// list returns the names directly below a folder in any of the bases. It seeks past subfolders.
func list(ctx context.Context, store *barrier.View, in listIn, bases ...string) (route.Keys, error) {
	folder := ""
	if in.Path != "" {
		folder = in.Path + "/"
	}
	var names []string
	for after := in.After; in.Limit <= 0 || len(names) < in.Limit; {
		next := ""
		for _, base := range bases {
			name, err := nextName(ctx, store, base+folder, after)
			if err != nil {
				return route.Keys{}, err
			}
			if name != "" && (next == "" || name < next) {
				next = name
			}
		}
		if next == "" {
			break
		}
		names, after = append(names, next), next
	}
	return route.Keys{Keys: names}, nil
}

// nextName returns the name after another, or "" if there is none, directly below a folder; after
// "" comes the first. Each folder is returned once, because it seeks past the whole folder.
func nextName(ctx context.Context, store *barrier.View, folder, after string) (string, error) {
	from := folder
	if strings.HasSuffix(after, "/") {
		from = storage.PrefixEnd(folder + after)
	} else if after != "" {
		from = folder + after + "\x00"
	}
	for e, err := range store.Scan(ctx, from, storage.PrefixEnd(folder)) {
		if err != nil {
			return "", err
		}
		if isVacant(e) {
			continue
		}
		name, _, deeper := strings.Cut(strings.TrimPrefix(e.Key, folder), "/")
		if deeper {
			name += "/"
		}
		return name, nil
	}
	return "", nil
}
