package core

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/storage"
)

// installed are the versions of Keyturn that have served this store.
type installed struct{ view *barrier.View }

type versionRow struct {
	Since time.Time `json:"since"`
}

// versionRows are by version.
const versionRows barrier.Rows[versionRow] = "core/version/"

// record stores when a version first served the store.
func (s installed) record(ctx context.Context, version string) error {
	if version == "" {
		return nil
	}
	if known, err := s.view.Has(ctx, versionRows.Key(version)); err != nil || known {
		return err
	}
	return versionRows.Put(ctx, s.view, version, versionRow{Since: time.Now().UTC().Truncate(time.Second)})
}

// list returns the versions that have served this store, oldest first.
func (s installed) list(ctx context.Context) ([]node.InstalledVersion, error) {
	var all []node.InstalledVersion
	for row, err := range s.view.Scan(ctx, string(versionRows), storage.PrefixEnd(string(versionRows))) {
		if err != nil {
			return nil, err
		}
		v, err := versionRows.Decode(row)
		if err != nil {
			return nil, err
		}
		all = append(all,
			node.InstalledVersion{Version: strings.TrimPrefix(row.Key, string(versionRows)), Since: v.Since})
	}
	slices.SortStableFunc(all, func(a, b node.InstalledVersion) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Version, b.Version))
	})
	return all, nil
}
