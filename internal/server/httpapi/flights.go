package httpapi

import (
	"net/http"
	"sync"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/route"
)

// Flights are the requests that are being served, at all listeners. The zero value is ready, and safe for concurrent use.
// A list through the calls themselves costs each request two short locks and no memory.
type Flights struct {
	mu    sync.Mutex
	first *call
}

// add notes that x is being served. What it tells does not change until remove.
func (f *Flights) add(x *call, r *http.Request) {
	x.flight = core.Flight{ID: x.request.ID, Start: x.request.Time, Remote: x.client(r), Path: r.URL.Path, Method: r.Method}
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.next = f.first; x.next != nil {
		x.next.previous = x
	}
	f.first = x
}

// client is the address of the client, as trusted proxies report it.
func (x *call) client(r *http.Request) string {
	if x.request.Remote.IsValid() {
		return x.request.Remote.String()
	}
	return r.RemoteAddr
}

func (f *Flights) remove(x *call) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if x.next != nil {
		x.next.previous = x.previous
	}
	if x.previous != nil {
		x.previous.next = x.next
	} else {
		f.first = x.next
	}
	x.next, x.previous = nil, nil
}

// List returns the requests that are being served, in no order.
func (f *Flights) List() []core.Flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []core.Flight
	for x := f.first; x != nil; x = x.next {
		one := x.flight
		one.Path = route.Redact(one.Path)
		all = append(all, one)
	}
	return all
}
