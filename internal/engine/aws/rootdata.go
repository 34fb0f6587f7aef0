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

// rootKind is the kind of the record and of the due item of config/root's key. It is the record's name, too.
const rootKind = "root"

// rootData is what the record of config/root's key keeps for this engine.
type rootData struct {
	When    cron.When   `json:"when,omitzero"`
	Turn    uint32      `json:"turn,omitempty"` // the rotation that these two are of
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
	_ = json.Unmarshal(r.Data, &d) // this version has written it
	return d
}

func (d *rootData) store(r *rotate.Record) error {
	b, err := json.Marshal(d)
	r.Data = b
	return fault.Wrap("aws.root", fault.Internal, err)
}

// deletedKeys are ids of keys that were deleted last: AWS lists them for a while.
type deletedKeys []string

func (d *deletedKeys) add(id string) {
	*d = append(*d, id)
	*d = (*d)[max(len(*d)-4, 0):]
}

// rest are keys that were not deleted.
func (d deletedKeys) without(keys []client.Key) []client.Key {
	return slices.DeleteFunc(keys, func(k client.Key) bool { return slices.Contains(d, k.ID) })
}
