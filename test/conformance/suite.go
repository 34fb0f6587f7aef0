package conformance

import (
	"encoding/json"
	"strconv"
	"strings"
)

// A Suite is a sequence of exchanges with one server.
type Suite struct {
	Name  string  `json:"name"`
	About string  `json:"about,omitempty"`
	Needs string  `json:"needs,omitempty"` // a variable without which the suite cannot be replayed: "postgres" or "aws"
	Steps []*Step `json:"steps"`
}

// A Step is one exchange.
type Step struct {
	Name       string            `json:"name,omitempty"`
	Method     string            `json:"method"`
	Path       string            `json:"path"`            // below /v1/
	Token      string            `json:"token,omitempty"` // "" is the root token, "none" sends none
	Headers    map[string]string `json:"headers,omitempty"`
	Body       json.RawMessage   `json:"body,omitempty"`
	Raw        string            `json:"raw,omitempty"`         // a body that is sent unchanged
	Capture    map[string]string `json:"capture,omitempty"`     // variables and their places in the answer
	Only       []string          `json:"only,omitempty"`        // compares only these fields
	Ignore     []string          `json:"ignore,omitempty"`      // ignores these: dotted paths, * for one segment
	StatusOnly bool              `json:"status_only,omitempty"` // compares only the status
	SleepMS    int               `json:"sleep_ms,omitempty"`    // a pause before the request, in milliseconds
	Want       *Answer           `json:"want,omitempty"`
}

// An Answer is a status with a body in normal form.
type Answer struct {
	Status int `json:"status"`
	Body   any `json:"body,omitempty"`
}

// A Session replays steps against one server and keeps their variables.
type Session struct {
	Address string // http://host:port
	Root    string // the root token
	Vars    map[string]string
}

// lookup returns the value at a dotted path, or nil.
func lookup(x any, path string) any {
	for p := range strings.SplitSeq(path, ".") {
		switch t := x.(type) {
		case map[string]any:
			x = t[p]
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i < 0 || i >= len(t) {
				return nil
			}
			x = t[i]
		default:
			return nil
		}
	}
	return x
}
