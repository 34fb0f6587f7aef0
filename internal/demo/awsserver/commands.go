package awsserver

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// command serves the paths below /-/ without a signature, for tests that run the server as a
// program:
//
//	POST /-/fault?action=CreateUser&mode=lost&times=1&skip=0&wait=1s
//	POST /-/clear
//	POST /-/use?key=AKIA…
//	POST /-/permit?user=keyturn    with a policy as its body
//	GET  /-/state
func (s *Server) command(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch r.Method + " " + r.URL.Path {
	case "POST /-/fault":
		f := Fault{Action: q.Get("action"), Mode: Mode(q.Get("mode"))}
		f.Times, _ = strconv.Atoi(q.Get("times"))
		f.Skip, _ = strconv.Atoi(q.Get("skip"))
		f.Wait, _ = time.ParseDuration(q.Get("wait"))
		s.Inject(f)
	case "POST /-/clear":
		s.Clear()
	case "POST /-/use":
		s.Use(q.Get("key"))
	case "POST /-/permit":
		document, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
		if err == nil {
			err = s.Permit(Account, q.Get("user"), string(document))
		}
		if err != nil {
			writeError(w, &apiError{400, "MalformedPolicyDocument", err.Error()})
			return
		}
	case "GET /-/state":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(state(s))
		return
	default:
		http.NotFound(w, r)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// state returns every user and its keys, by account.
func state(s *Server) map[string]map[string][]Key {
	out := map[string]map[string][]Key{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, a := range s.accounts {
		users := map[string][]Key{}
		for name, u := range a.users {
			users[name] = []Key{}
			for _, k := range u.keys {
				users[name] = append(users[name], Key{k.id, k.inactive})
			}
		}
		out[id] = users
	}
	return out
}

// ServeHTTP serves a call, or a command to the server itself.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/-/") {
		s.command(w, r)
		return
	}
	s.serve(w, r)
}
