package rotationtest

import (
	"time"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
)

// The demonstration provider's names, for tests that may not import it: a part of the
// demo is the demo's and this package's.
type (
	Vendor       = keyserver.Server
	VendorConfig = keyserver.Config
	VendorFault  = keyserver.Fault // its calls and modes are strings
	VendorCall   = keyserver.Call
)

// ErrVendorBusy is the vendor's answer that it has too many requests: it has done nothing.
var ErrVendorBusy = keyserver.ErrBusy

// NewVendor returns a provider without keys.
func NewVendor(c VendorConfig) *Vendor { return keyserver.New(c) }

// Breaker returns the Break of a [Rig] whose vendor is s.
func Breaker(s *Vendor, late time.Duration) func(Call, Fault) {
	calls := map[Call]keyserver.Call{
		Create: keyserver.Create, Verify: keyserver.Use, List: keyserver.List,
		LastUsed: keyserver.Get, Disable: keyserver.Disable, Retire: keyserver.Delete,
	}
	faults := map[Fault]keyserver.Fault{
		Busy:      {Mode: keyserver.Before, Err: keyserver.ErrBusy},
		Broken:    {Mode: keyserver.Before, Err: keyserver.ErrBroken},
		CutBefore: {Mode: keyserver.Before},
		CutAfter:  {Mode: keyserver.After},
		Hang:      {Mode: keyserver.Hang},
		Late:      {Mode: keyserver.Late, Delay: late},
		Lag:       {Mode: keyserver.Lag, Delay: time.Hour},
		Full:      {Mode: keyserver.Before, Err: keyserver.ErrFull},
	}
	return func(c Call, f Fault) {
		order := faults[f]
		order.Call = calls[c]
		s.Inject(order)
	}
}

// LiveIDs returns the Live of a [Rig] whose vendor is s.
func LiveIDs(s *Vendor) func() []string {
	return func() (ids []string) {
		for _, k := range s.Live() {
			ids = append(ids, k.ID)
		}
		return ids
	}
}

// Order has s fail in a mode, or with the error of one that is busy.
func Order(s *Vendor, f VendorFault, mode string) {
	if f.Mode = keyserver.Mode(mode); mode == "busy" {
		f.Mode, f.Err = keyserver.Before, keyserver.ErrBusy
	}
	s.Inject(f)
}
