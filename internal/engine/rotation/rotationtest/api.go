package rotationtest

import (
	"crypto/md5" //nolint:gosec // the scripted vendor asks for it
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/demo/keyserver"
)

// An api is a shape in front of a vendor.
type api struct {
	*keyserver.Server
	adminToken string
	mux        *http.ServeMux
	failure    func(status int, text string) any // the body of an error
	full       answer                            // at the limit of keys
	dead       answer                            // to a key that is not accepted
}

// An answer is a reply. A nil body is none.
type answer struct {
	status    int
	body      any
	challenge string // the header WWW-Authenticate
}

// errDead is the error of a call that authenticates with a key that is not accepted.
var errDead = errors.New("the key is not accepted")

// on serves a pattern of [http.ServeMux].
func (a *api) on(pattern string, handle func(r *http.Request) (answer, error)) {
	a.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		out, err := handle(r)
		if err != nil {
			out = a.failed(err)
		}
		if errors.Is(err, keyserver.ErrBusy) {
			w.Header().Set("Retry-After", "7")
		}
		if out.challenge != "" {
			w.Header().Set("WWW-Authenticate", out.challenge)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(out.status)
		if out.body != nil {
			_ = json.NewEncoder(w).Encode(out.body) // the client may have gone
		}
	})
}

// failed returns the reply to a call that failed. If the connection is to be cut, failed aborts
// the handler.
func (a *api) failed(err error) answer {
	for known, status := range map[error]int{
		keyserver.ErrUnauthorized: 401, keyserver.ErrNotFound: 404, keyserver.ErrBroken: 500, keyserver.ErrBusy: 429,
		keyserver.ErrBadRequest: 400,
	} {
		if errors.Is(err, known) {
			return answer{status: status, body: a.failure(status, http.StatusText(status))}
		}
	}
	switch {
	case errors.Is(err, keyserver.ErrFull):
		return a.full
	case errors.Is(err, errDead):
		return a.dead
	}
	panic(http.ErrAbortHandler)
}

// use authenticates with a key.
func (a *api) use(r *http.Request, secret string) (keyserver.Key, error) {
	k, err := a.Use(r.Context(), secret)
	if errors.Is(err, keyserver.ErrUnauthorized) {
		err = errDead
	}
	return k, err
}

// digestParam matches a parameter of the header Authorization.
var digestParam = regexp.MustCompile(`(\w+)="?([^",]*)"?`)

// onDigest is on with digest authentication. check reports whether the caller knows a password.
// A request without credentials gets a challenge, and has no other effect.
func (a *api) onDigest(pattern string, handle func(r *http.Request, user string, check func(password string) bool) (
	answer, error)) {
	const nonce = "kXyZ+/=1"
	a.on(pattern, func(r *http.Request) (answer, error) {
		header, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Digest ")
		if !ok {
			ask := `Digest realm="MMS Public API", domain="", nonce="` + nonce + `", algorithm=MD5, qop="auth", stale=false`
			return answer{status: 401, body: a.failure(401, "Unauthorized"), challenge: `Basic realm="x", ` + ask}, nil
		}
		p := map[string]string{}
		for _, m := range digestParam.FindAllStringSubmatch(header, -1) {
			p[m[1]] = m[2]
		}
		sum := func(parts ...string) string { return fmt.Sprintf("%x", md5.Sum([]byte(strings.Join(parts, ":")))) }
		return handle(r, p["username"], func(password string) bool {
			return p["nonce"] == nonce && p["uri"] == r.RequestURI && p["nc"] == "00000001" && p["cnonce"] != "" &&
				p["response"] == sum(sum(p["username"], "MMS Public API", password), nonce, p["nc"], p["cnonce"],
					p["qop"], sum(r.Method, r.RequestURI))
		})
	})
}

// body reads a body of JSON.
func body(r *http.Request) (out map[string]any) {
	_ = json.NewDecoder(r.Body).Decode(&out) // a label is missing then
	return out
}

// dig returns the string below the names, each of an object or an index of a list.
func dig(v any, path ...any) string {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[step]
		case int:
			l, _ := v.([]any)
			if step >= len(l) {
				return ""
			}
			v = l[step]
		}
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

// object is a JSON object.
type object = map[string]any

// each converts the keys of a page. The page begins at an index and has size keys at most.
func each(all []keyserver.Key, from, size int, show func(keyserver.Key) object) (page []object, more bool) {
	page = []object{}
	for _, k := range all[min(from, len(all)):min(from+size, len(all))] {
		page = append(page, show(k))
	}
	return page, from+size < len(all)
}

// number parses a number of a query, or returns 0.
func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// unix returns seconds since 1970, or nil for the zero time.
func unix(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.Unix()
}

// rfc3339 returns the text of a time, or nil for the zero time.
func rfc3339(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Format(time.RFC3339Nano)
}
