package rotation

import (
	"github.com/keyturn/keyturn/internal/rotate"
)

// backend is the engine of one mount.
type backend struct {
	*catalog
	rotations *rotate.Manager
}
