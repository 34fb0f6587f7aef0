package recipe

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/rotate"
)

// exchange describes a request before it is sent.
func (c *caller) exchange(st *step, r *http.Request) rotate.Exchange {
	x := rotate.Exchange{At: time.Now().UTC(), Step: st.name, Method: r.Method, Host: r.URL.Host, Path: c.eval.redactor.Scrub(r.URL.EscapedPath())}
	if c.told == nil {
		return x
	}
	for _, p := range slices.Sorted(maps.Keys(r.URL.Query())) {
		x.Query = append(x.Query, c.eval.redactor.Scrub(p))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		value := c.eval.redactor.Scrub(strings.Join(r.Header[name], ", "))
		if name == "Authorization" {
			scheme, _, _ := strings.Cut(value, " ")
			value = scheme + " [secret]"
		}
		x.Headers = append(x.Headers, name+": "+value)
	}
	if r.GetBody != nil {
		if body, err := r.GetBody(); err == nil {
			sent, _ := io.ReadAll(io.LimitReader(body, maxText))
			x.Body = c.eval.redactor.Scrub(string(sent))
		}
	}
	return x
}

// A madeCall holds the step of a request and the variables of its expressions. callKey is the key
// of the madeCall in the request's context.
type (
	madeCall struct {
		step *step
		vars scope
	}
	callKey struct{}
)
