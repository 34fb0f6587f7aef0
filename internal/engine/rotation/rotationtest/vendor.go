package rotationtest

import (
	"time"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
	"github.com/keyturn/keyturn/internal/rotate/rotatetest"
)

// The names of the demonstration provider, for tests, which may not import it.
type (
	Vendor       = keyserver.Server
	VendorConfig = keyserver.Config
	VendorFault  = keyserver.Fault
	VendorCall   = keyserver.Call
)

// ErrVendorBusy is the error of a vendor that gets too many requests. The vendor did nothing.
var ErrVendorBusy = keyserver.ErrBusy

// NewVendor returns a provider without keys.
func NewVendor(c VendorConfig) *Vendor { return keyserver.New(c) }

// Breaker returns the Break of a fixture of [rotatetest.Targets] whose vendor is s.
func Breaker(s *Vendor, late time.Duration) func(rotatetest.Step, rotatetest.Fault) {
	calls := map[rotatetest.Step]keyserver.Call{
		rotatetest.Create: keyserver.Create, rotatetest.Verify: keyserver.Use, rotatetest.List: keyserver.List,
		rotatetest.LastUsed: keyserver.Get, rotatetest.Disable: keyserver.Disable, rotatetest.Retire: keyserver.Delete,
	}
	faults := map[rotatetest.Fault]keyserver.Fault{
		rotatetest.Busy:      {Mode: keyserver.Before, Err: keyserver.ErrBusy},
		rotatetest.Broken:    {Mode: keyserver.Before, Err: keyserver.ErrBroken},
		rotatetest.CutBefore: {Mode: keyserver.Before},
		rotatetest.CutAfter:  {Mode: keyserver.After},
		rotatetest.Hang:      {Mode: keyserver.Hang},
		rotatetest.Late:      {Mode: keyserver.Late, Delay: late},
		rotatetest.Lag:       {Mode: keyserver.Lag, Delay: time.Hour},
		rotatetest.Full:      {Mode: keyserver.Before, Err: keyserver.ErrFull},
	}
	return func(call rotatetest.Step, f rotatetest.Fault) {
		fault := faults[f]
		fault.Call = calls[call]
		s.Inject(fault)
	}
}

// LiveIDs returns a function that lists the IDs of the keys that are valid at s.
func LiveIDs(s *Vendor) func() []string {
	return func() (ids []string) {
		for _, k := range s.Live() {
			ids = append(ids, k.ID)
		}
		return ids
	}
}

// Inject makes s fail in a mode, or as a busy server if the mode is "busy".
func Inject(s *Vendor, f VendorFault, mode string) {
	if f.Mode = keyserver.Mode(mode); mode == "busy" {
		f.Mode, f.Err = keyserver.Before, keyserver.ErrBusy
	}
	s.Inject(f)
}
