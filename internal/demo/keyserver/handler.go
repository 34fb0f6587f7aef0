package keyserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Handler returns the HTTP API.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, handle := range map[string]func(*http.Request) (int, any, error){
		"POST /v1/keys":              s.serveCreate,
		"GET /v1/keys":               s.serveList,
		"GET /v1/keys/{id}":          s.serveGet,
		"POST /v1/keys/{id}/disable": s.serveDisable(true),
		"POST /v1/keys/{id}/enable":  s.serveDisable(false),
		"DELETE /v1/keys/{id}":       s.serveDelete,
		"GET /v1/whoami":             s.serveWhoami,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			status, body, err := handle(r)
			if err != nil {
				status, body = statusOf(err), map[string]string{"error": err.Error()}
			}
			if errors.Is(err, ErrBusy) {
				w.Header().Set("Retry-After", "7")
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			if body != nil {
				_ = json.NewEncoder(w).Encode(body) // the client may have gone
			}
		})
	}
	return mux
}

// statusOf returns the status of an error. A cut connection has none and aborts the handler.
func statusOf(err error) int {
	for known, status := range map[error]int{
		ErrUnauthorized: 401, ErrNotFound: 404, ErrFull: 409, ErrBroken: 500, ErrBusy: 429, ErrBadRequest: 400,
	} {
		if errors.Is(err, known) {
			return status
		}
	}
	panic(http.ErrAbortHandler)
}

// shown is a key without its secret.
type shown struct {
	ID       string     `json:"id"`
	Label    string     `json:"label"`
	Created  time.Time  `json:"created_at"`
	LastUsed *time.Time `json:"last_used_at"`
	Disabled bool       `json:"disabled"`
}

func show(k Key) shown {
	out := shown{ID: k.ID, Label: k.Label, Created: k.Created, Disabled: !k.Disabled.IsZero()}
	if !k.LastUsed.IsZero() {
		out.LastUsed = &k.LastUsed
	}
	return out
}

func bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}

func (s *Server) serveCreate(r *http.Request) (int, any, error) {
	var in struct {
		Label string `json:"label"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&in); err != nil || len(in.Label) > 255 {
		return 0, nil, ErrBadRequest
	}
	k, err := s.Create(r.Context(), bearer(r), in.Label)
	if err != nil {
		return 0, nil, err
	}
	return 201, struct {
		ID      string    `json:"id"`
		Secret  string    `json:"secret"`
		Label   string    `json:"label"`
		Created time.Time `json:"created_at"`
	}{k.ID, k.Secret, k.Label, k.Created}, nil
}

func (s *Server) serveList(r *http.Request) (int, any, error) {
	limit := 100
	if text := r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > 100 {
			return 0, nil, ErrBadRequest
		}
		limit = n
	}
	keys, err := s.List(r.Context(), bearer(r))
	if err != nil {
		return 0, nil, err
	}
	out := struct {
		Keys []shown `json:"keys"`
		Next string  `json:"next,omitempty"`
	}{Keys: []shown{}}
	after := r.FormValue("after")
	for _, k := range keys {
		if after != "" {
			if k.ID == after {
				after = ""
			}
			continue
		}
		if len(out.Keys) == limit {
			out.Next = out.Keys[limit-1].ID
			break
		}
		out.Keys = append(out.Keys, show(k))
	}
	return 200, out, nil
}

func (s *Server) serveGet(r *http.Request) (int, any, error) {
	k, err := s.Get(r.Context(), bearer(r), r.PathValue("id"))
	return 200, show(k), err
}

func (s *Server) serveDisable(disabled bool) func(*http.Request) (int, any, error) {
	return func(r *http.Request) (int, any, error) {
		return 204, nil, s.Disable(r.Context(), bearer(r), r.PathValue("id"), disabled)
	}
}

func (s *Server) serveDelete(r *http.Request) (int, any, error) {
	return 204, nil, s.Delete(r.Context(), bearer(r), r.PathValue("id"))
}

func (s *Server) serveWhoami(r *http.Request) (int, any, error) {
	k, err := s.Use(r.Context(), bearer(r))
	if err != nil {
		return 0, nil, err
	}
	return 200, map[string]string{"id": k.ID, "label": k.Label}, nil
}
