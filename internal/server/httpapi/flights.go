package httpapi

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"sync"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/route"
)

// Flights are the requests that all listeners are serving. The zero value is ready to use. Safe
// for concurrent use. They are in linked lists through the calls, which cost each request two
// short locks and no memory. There are many lists, because with only one, a thread that the system
// suspends while it has the lock would block all requests.
type Flights struct{ lists [64]flightList }

type flightList struct {
	mu    sync.Mutex
	first *call
	_     [48]byte // so that no two lists share a cache line
}

// add registers that x is being served. Until remove, the fields that are shown must not change.
func (f *Flights) add(x *call) {
	l := &f.lists[rand.IntN(len(f.lists))]
	x.listed = l
	l.mu.Lock()
	if x.next = l.first; x.next != nil {
		x.next.previous = x
	}
	l.first = x
	l.mu.Unlock()
}

func (f *Flights) remove(x *call) {
	l := x.listed
	l.mu.Lock()
	if x.next != nil {
		x.next.previous = x.previous
	}
	if x.previous != nil {
		x.previous.next = x.next
	} else {
		l.first = x.next
	}
	x.next, x.previous = nil, nil
	l.mu.Unlock()
}

// List returns the requests that are being served, in no order.
func (f *Flights) List() []core.Flight {
	var all []core.Flight
	for i := range f.lists {
		all = f.lists[i].append(all)
	}
	return all
}

func (l *flightList) append(all []core.Flight) []core.Flight {
	l.mu.Lock()
	defer l.mu.Unlock()
	for x := l.first; x != nil; x = x.next {
		all = append(all, x.flight())
	}
	return all
}

// flight returns the part of a call that is shown. It is created only on demand.
func (x *call) flight() core.Flight {
	return core.Flight{
		ID: x.request.ID, Start: x.request.Time, Remote: x.client(), Path: route.Redact(x.http.URL.Path),
		Method: x.http.Method,
	}
}

// client is the address of the client, as trusted proxies report it.
func (x *call) client() string {
	if x.request.Remote.IsValid() {
		return x.request.Remote.String()
	}
	return x.http.RemoteAddr
}

// A call is one request while it is here.
type call struct {
	request  route.Request
	settings *Settings
	body     *buffer // to be given back; may be nil

	http           *http.Request // for Flights, which reads its line and address alone
	listed         *flightList
	next, previous *call // guarded by the lock of listed
}

// identify determines the client's address. The error says that the request did not come through
// the required proxies.
func (x *call) identify(r *http.Request) error {
	x.request.Remote = remote(r.RemoteAddr)
	if x.settings.Forwarded == nil {
		return nil
	}
	var err error
	x.request.Remote, err = x.settings.Forwarded.client(x.request.Remote, r.Header["X-Forwarded-For"])
	return err
}

// A buffer holds one body.
type buffer struct {
	bytes.Buffer
	large bool
}
