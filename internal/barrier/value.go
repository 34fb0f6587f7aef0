package barrier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/keyturn/keyturn/internal/storage"
)

// sealValue appends the encrypted value of a put to buf.
func (k *dataKey) sealValue(buf []byte, o storage.Op) []byte {
	format := byte(formatKey)
	if o.Stamp {
		format = formatStamp
	}
	start := len(buf)
	buf = append(buf, format)
	buf = binary.AppendUvarint(buf, uint64(k.id))
	ad := scratch.Get().(*[]byte)
	*ad = append(append((*ad)[:0], buf[start:]...), o.Key...)
	buf = k.values.Seal(buf, nil, o.Value, *ad)
	scratch.Put(ad)
	return buf
}

// overhead is the maximum that encryption adds to a value: format, key ID, nonce and tag.
const overhead = 1 + binary.MaxVarintLen32 + 12 + 16

// parseHeader returns the id of a value's data key and the header's length.
func parseHeader(key string, value []byte) (id uint32, head int, err error) {
	if len(value) == 0 {
		return 0, 0, errors.New("no format")
	}
	switch f := value[0]; {
	case f != formatKey && f != formatStamp:
		return 0, 0, fmt.Errorf("unknown format %d", f)
	case f == formatStamp && len(key) < stampSize:
		return 0, 0, errors.New("a stamped value at a key without a stamp")
	}
	wide, n := binary.Uvarint(value[1:])
	if n <= 0 || wide == 0 || wide > 1<<32-1 {
		return 0, 0, errors.New("no data key's id")
	}
	return uint32(wide), 1 + n, nil
}

// stampSize is the length of a commit's number at the end of a key.
var stampSize = len(storage.StampedKey("", 0))

// Formats of a value.
const (
	formatKey   = 1 // bound to its whole key
	formatStamp = 2 // bound to its key without the commit's number
)

// scratch holds the additional data of one operation, because data that is passed through an
// interface would be allocated each time.
var scratch = sync.Pool{New: func() any { return &[]byte{} }}
