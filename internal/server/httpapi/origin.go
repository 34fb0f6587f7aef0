package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/keyturn/keyturn/internal/core"
	"github.com/keyturn/keyturn/internal/fault"
)

// corsMethods are those that a page of another origin may use.
const corsMethods = "DELETE, GET, OPTIONS, POST, PUT, LIST, PATCH"

// crossOrigin checks a request of a web page against sys/config/cors, and answers preflight
// requests. A nil answer without an error means that the request continues. If CORS is not
// enabled, the header Origin is ignored, because the browser then hides the answer from the page.
func (h *Handler) crossOrigin(ctx context.Context, w http.ResponseWriter, r *http.Request) (*core.Answer, error) {
	origin := header(r.Header, "Origin")
	if origin == "" || h.cfg.Backend.CORS == nil {
		return nil, nil
	}
	c, err := h.cfg.Backend.CORS(ctx)
	if err != nil || !c.Enabled() {
		return nil, err
	}
	if !c.Allows(origin) {
		return nil, fault.New("httpapi", fault.Denied,
			"pages of this origin may not call; sys/config/cors lists those that may")
	}
	head := w.Header()
	head.Set("Access-Control-Allow-Origin", origin)
	head.Set("Vary", "Origin")
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return nil, nil
	}
	head.Set("Access-Control-Allow-Methods", corsMethods)
	head.Set("Access-Control-Allow-Headers", strings.Join(c.AllHeaders(), ","))
	head.Set("Access-Control-Max-Age", "300")
	return &core.Answer{Status: http.StatusNoContent}, nil
}

// page answers what is not below /v1/. Below /ui the answer carries the headers of
// sys/config/ui/headers.
func (h *Handler) page(ctx context.Context, w http.ResponseWriter, path string) error {
	if !isUI(path) {
		return fault.New("httpapi", fault.NotFound, "there is nothing here; the API is below /v1/")
	}
	if h.cfg.Backend.UIHeaders != nil {
		all, err := h.cfg.Backend.UIHeaders(ctx)
		if err != nil {
			return err
		}
		for name, values := range all {
			for _, v := range values {
				w.Header().Add(name, v)
			}
		}
	}
	return fault.New("httpapi", fault.NotFound,
		"the web interface is not built into this version; use the command line or the API below /v1/")
}

func isUI(path string) bool { return path == "/ui" || strings.HasPrefix(path, "/ui/") || path == "/" }
