package recipe

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
	"golang.org/x/net/http/httpguts"

	"github.com/keyturn/keyturn/internal/fault"
)

// request builds the HTTP request of a step.
func (ev *evaluator) request(ctx context.Context, st *step, vars scope) (*http.Request, error) {
	u, err := ev.address(st, vars)
	if err != nil {
		return nil, err
	}
	content, contentType, err := ev.content(st, vars)
	if err != nil {
		return nil, err
	}
	var payload io.Reader
	if contentType != "" {
		payload = strings.NewReader(content)
	}
	r, err := http.NewRequestWithContext(ctx, st.method, u.String(), payload)
	if err != nil {
		return nil, fault.New("recipe.request", fault.Invalid,
			"%s: the request cannot be made; check method, url and headers", position(st.at))
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "keyturn")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if err := ev.addHeaders(r, st.headers, vars); err != nil {
		return nil, err
	}
	return r, ev.authenticate(r, st.auth, vars)
}

// address evaluates the URL and the query. address refuses dot segments, so that no value from
// outside the recipe can select another path.
func (ev *evaluator) address(st *step, vars scope) (*url.URL, error) {
	bad := func(why string) (*url.URL, error) {
		return nil, fault.New("recipe.request", fault.Invalid, "%s: the url is refused: %s", position(st.url.Range()),
			why)
	}
	// Refuse an empty key ID, because the URL would then name the collection of all keys.
	if key, ok := vars["key"]; ok && uses([]hcl.Expression{st.url}, "key", "id") && key.Type().IsObjectType() &&
		key.Type().HasAttribute("id") {
		if id := key.GetAttr("id"); id.IsKnown() && !id.IsNull() && id.Type() == cty.String && id.AsString() == "" {
			return bad("the ID of the key is empty; store its ID with the key")
		}
	}
	raw, _, err := ev.text(st.url, vars)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxURL {
		return bad("it is too long; shorten its parts")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return bad("it is not a URL; want https://host/path")
	}
	if strings.Contains(raw, "#") {
		return bad("it has a fragment; remove the part after the #")
	}
	for _, path := range []string{u.Path, u.EscapedPath()} {
		for segment := range strings.FieldsFuncSeq(path, func(r rune) bool { return r == '/' || r == '\\' }) {
			if segment == "." || segment == ".." {
				return bad("its path has a dot segment; write it without dot segments")
			}
		}
	}
	pairs, err := ev.pairs(st.query, vars)
	if err != nil {
		return nil, err
	}
	if len(pairs) > 0 {
		query := u.Query()
		for _, p := range pairs {
			query.Add(p.name, p.value)
		}
		u.RawQuery = query.Encode()
	}
	return u, nil
}

// content evaluates the body. The content type is "" if there is no body.
func (ev *evaluator) content(st *step, vars scope) (content, contentType string, err error) {
	b := &st.body
	switch {
	case b.json != nil:
		content, err = ev.json(b.json, vars)
		contentType = "application/json"
	case b.query != nil:
		content, err = ev.graphql(b, vars)
		contentType = "application/json"
	case b.form != nil:
		var pairs []pair
		pairs, err = ev.pairs(b.form, vars)
		form := url.Values{}
		for _, p := range pairs {
			form.Add(p.name, p.value)
		}
		content, contentType = form.Encode(), "application/x-www-form-urlencoded"
	case b.raw != nil:
		content, _, err = ev.text(b.raw, vars)
	default:
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	if b.contentType != nil {
		if contentType, _, err = ev.text(b.contentType, vars); err != nil {
			return "", "", err
		}
		if contentType == "" || !httpguts.ValidHeaderFieldValue(contentType) {
			return "", "",
				fault.New("recipe.request", fault.Invalid,
					"%s: the content type is not valid; write one such as application/json",
					position(b.contentType.Range()))
		}
	}
	return content, contentType, nil
}

func (ev *evaluator) json(e hcl.Expression, vars scope) (string, error) {
	v, err := ev.value(e, vars)
	if err != nil {
		return "", err
	}
	fits := true
	_ = cty.Walk(v, func(_ cty.Path, v cty.Value) (bool, error) {
		fits = fits && printable(v)
		return true, nil
	})
	out, err := ctyjson.Marshal(v, v.Type())
	if err != nil || !fits || size(v) > maxText {
		return "", fault.New("recipe.request", fault.Invalid,
			"%s: the value has no JSON form; use numbers, strings, lists and objects", position(e.Range()))
	}
	return string(out), nil
}

func (ev *evaluator) graphql(b *body, vars scope) (string, error) {
	query, _, err := ev.text(b.query, vars)
	if err != nil {
		return "", err
	}
	out := map[string]json.RawMessage{}
	if out["query"], err = json.Marshal(query); err != nil {
		return "", err
	}
	if b.variables != nil {
		variables, err := ev.json(b.variables, vars)
		if err != nil {
			return "", err
		}
		out["variables"] = json.RawMessage(variables)
	}
	text, err := json.Marshal(out)
	return string(text), err
}

// hopHeaders are the headers that only the transport may set.
var hopHeaders = []string{"Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Te", "Trailer",
	"Keep-Alive", "Expect", "Proxy-Authorization", "Proxy-Connection"}

func (ev *evaluator) addHeaders(r *http.Request, e hcl.Expression, vars scope) error {
	pairs, err := ev.pairs(e, vars)
	if err != nil {
		return err
	}
	first := map[string]bool{}
	for _, p := range pairs {
		name := http.CanonicalHeaderKey(p.name)
		if !httpguts.ValidHeaderFieldName(p.name) || !httpguts.ValidHeaderFieldValue(p.value) ||
			slices.Contains(hopHeaders, name) {
			return fault.New("recipe.request", fault.Invalid,
				"%s: the header %q is not valid, or a recipe may not set it; leave it out", position(e.Range()),
				ev.redactor.Scrub(p.name))
		}
		if !first[name] {
			first[name] = true
			r.Header.Del(name)
		}
		r.Header.Add(name, p.value)
	}
	return nil
}

// authenticate adds the credentials to the request. The redactor learns the credentials in the
// form in which they are sent, because an error may echo that form.
func (ev *evaluator) authenticate(r *http.Request, a *auth, vars scope) error {
	if a == nil {
		return nil
	}
	switch a.kind {
	case "bearer":
		token, _, err := ev.text(a.token, vars)
		if err != nil {
			return err
		}
		if token == "" || !httpguts.ValidHeaderFieldValue(token) {
			return fault.New("recipe.request", fault.Invalid,
				"%s: the token is empty or cannot be put in a header; check the admin credentials",
				position(a.token.Range()))
		}
		r.Header.Set("Authorization", "Bearer "+token)
	case "basic":
		username, _, err := ev.text(a.username, vars)
		if err != nil {
			return err
		}
		password, _, err := ev.text(a.password, vars)
		if err != nil {
			return err
		}
		r.SetBasicAuth(username, password)
		ev.know(strings.TrimPrefix(r.Header.Get("Authorization"), "Basic "))
	case "header":
		return ev.addHeaders(r, a.headers, vars)
	}
	return nil
}
