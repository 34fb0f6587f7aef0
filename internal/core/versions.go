package core

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/core/node"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// versionPrefix is followed by a version of Keyturn that has served this store.
const versionPrefix = "core/version/"

// installed are the versions of Keyturn that have served this store.
type installed struct{ view *barrier.View }

type versionRow struct {
	Since time.Time `json:"since"`
}

// record stores when a version first served the store.
func (s installed) record(ctx context.Context, version string) error {
	if version == "" {
		return nil
	}
	row, err := s.view.Get(ctx, versionPrefix+version)
	if err != nil || row.Version != 0 {
		return err
	}
	b, err := json.Marshal(versionRow{Since: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return fault.Wrap("core.recordVersion", fault.Internal, err)
	}
	_, err = s.view.Commit(ctx, storage.Set(versionPrefix+version, b))
	return err
}

// list returns the versions that have served this store, oldest first.
func (s installed) list(ctx context.Context) ([]node.InstalledVersion, error) {
	var all []node.InstalledVersion
	for row, err := range s.view.Scan(ctx, versionPrefix, storage.PrefixEnd(versionPrefix)) {
		if err != nil {
			return nil, err
		}
		var v versionRow
		if err := json.Unmarshal(row.Value, &v); err != nil {
			return nil, fault.Wrap("core.versions", fault.Internal, err)
		}
		all = append(all, node.InstalledVersion{Version: strings.TrimPrefix(row.Key, versionPrefix), Since: v.Since})
	}
	slices.SortStableFunc(all, func(a, b node.InstalledVersion) int {
		return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.Version, b.Version))
	})
	return all, nil
}
