package rotate

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// A Recorder keeps the requests of one target until a commit of its record stores them. Targets
// embed it. The zero value is empty and ready to use. It is safe for concurrent use.
type Recorder struct {
	mu          sync.Mutex // guards made
	uncommitted []Exchange
}

// maxUncommitted bounds the exchanges of one step in memory, because a list may have many pages.
const maxUncommitted = 20

// RecordExchange records an exchange with the provider.
func (r *Recorder) RecordExchange(x Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.uncommitted) == maxUncommitted {
		r.uncommitted = r.uncommitted[1:]
	}
	r.uncommitted = append(r.uncommitted, x)
}

// Exchanges returns the requests since the last call of Exchanges. The commit that follows stores
// them.
func (r *Recorder) Exchanges() []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	made := r.uncommitted
	r.uncommitted = nil
	return made
}

// Ended returns the exchange, which began at x.At, with its duration.
func (x Exchange) Ended() Exchange {
	x.Took = SecondsOf(time.Since(x.At))
	return x
}

// ShowReason is [ShowReply] for a provider that does not use JSON. ShowReason returns what may be
// stored of the code and the text of a failed call.
func ShowReason(red *secret.Redactor, status int, code, message string, creates bool) string {
	body, err := json.Marshal(struct {
		Code    string `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}{code, message})
	if err != nil || code == "" && message == "" {
		return ""
	}
	return ShowReply(red, status, body, creates)
}

// ShowText returns what may be stored of a third party's text that is not a reply, such as a
// driver's or the network's error.
func ShowText(red *secret.Redactor, words string) string { return clip(mask(red, words)) }
