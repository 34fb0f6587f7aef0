package rotate

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// A Recorder keeps the requests of one target until a commit of its record stores them. A target
// embeds it. Its zero value is empty. It is safe for concurrent use.
type Recorder struct {
	mu   sync.Mutex // guards made
	made []Exchange
}

// maxMade bounds the exchanges of one step in memory: a list may have many pages.
const maxMade = 20

// Tell notes an exchange with the provider.
func (r *Recorder) Tell(x Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.made) == maxMade {
		r.made = r.made[1:]
	}
	r.made = append(r.made, x)
}

// Exchanges are the requests since it was last asked. The commit that follows keeps them.
func (r *Recorder) Exchanges() []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	made := r.made
	r.made = nil
	return made
}

// Ended completes an exchange that began at x.At.
func (x Exchange) Ended() Exchange {
	x.Took = SecondsOf(time.Since(x.At))
	return x
}

// ShowReason is [ShowReply] for a provider that does not speak JSON: what is kept of the code and
// the words of a failed call.
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

// ShowWords is what is kept of words of others that are no reply: of a driver, or of the network.
func ShowWords(red *secret.Redactor, words string) string { return clip(mask(red, words)) }
