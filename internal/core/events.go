package core

import (
	"context"
	"time"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/engine"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/wire"
)

const eventPrefix = "event/"

// eventHorizon is for how many commits an event is kept. At a few hundred bytes each, events use
// at most about 60 MiB.
const eventHorizon = 200_000

// events are rows that tell users what happened. Each is stored in the same commit as the change.
type events struct{ view *barrier.View }

// op returns the operation that records an event. No detail may be secret.
func (e events) op(kind string, details ...engine.Detail) storage.Op {
	b := append(make([]byte, 0, 256), `{"kind":`...)
	b = append(wire.AppendString(b, kind), `,"at":"`...)
	b = append(time.Now().UTC().AppendFormat(b, time.RFC3339Nano), `","data":{`...)
	for i, d := range details {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(wire.AppendString(b, d.Name), ':')
		b = wire.AppendString(b, d.Value)
	}
	b = append(b, "}}"...)
	return storage.Append(eventPrefix, b)
}

// trim removes the events that are older than the horizon. It takes the store's newest version
// from the row of the counts, which is written each second.
func (e events) trim(ctx context.Context) error {
	row, err := e.view.Get(ctx, string(storedCounts))
	if err != nil || row.Version <= eventHorizon {
		return err
	}
	return removeBelow(ctx, e.view, eventPrefix, storage.StampedKey(eventPrefix, row.Version-eventHorizon))
}
