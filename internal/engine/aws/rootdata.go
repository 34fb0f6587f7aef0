package aws

import (
	"encoding/json"
	"slices"

	"github.com/keyturn/keyturn/internal/cron"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/engine/aws/client"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// rootKind is the kind and the name of the record of config/root's key, and the kind of its due
// item.
const rootKind = "root"

// rootData is what the record of config/root's key stores for this engine.
type rootData struct {
	When    cron.When   `json:"when,omitzero"`
	Turn    uint32      `json:"turn,omitempty"` // the rotation for which User and Account were found out
	User    string      `json:"user,omitempty"`
	Account string      `json:"account,omitempty"`
	Deleted deletedKeys `json:"dropped,omitempty"`
}

// rootRotation rotates the access key of config/root.
type rootRotation struct {
	m       *engine.Mount
	configs *configs
	clients *clients
}

func rootDataOf(r *rotate.Record) (d rootData) {
	_ = json.Unmarshal(r.Data, &d) // this server has encoded it
	return d
}

func (d *rootData) store(r *rotate.Record) error {
	b, err := json.Marshal(d)
	r.Data = b
	return fault.Wrap("aws.root", fault.Internal, err)
}

// deletedKeys are the ids of the last deleted keys, because AWS still lists them for a while.
type deletedKeys []string

func (d *deletedKeys) add(id string) {
	*d = append(*d, id)
	*d = (*d)[max(len(*d)-4, 0):]
}

// without returns the keys that were not deleted.
func (d deletedKeys) without(keys []client.Key) []client.Key {
	return slices.DeleteFunc(keys, func(k client.Key) bool { return slices.Contains(d, k.ID) })
}
