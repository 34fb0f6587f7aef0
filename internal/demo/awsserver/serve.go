package awsserver

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
	if err != nil {
		return
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || r.Method != http.MethodPost {
		form = r.URL.Query()
	}
	name := form.Get("Action")
	f := s.begin(name)
	if f != nil && f.before(w) {
		return
	}
	var answer node
	var fail *apiError
	if f == nil || f.Mode != Lie {
		answer, fail = s.do(r, body, form, name)
	}
	if f != nil && f.after(w, fail) {
		return
	}
	if fail != nil {
		writeError(w, fail)
		return
	}
	space := "https://iam.amazonaws.com/doc/2010-05-08/"
	if _, sts := stsActions[name]; sts {
		space = "https://sts.amazonaws.com/doc/2011-06-15/"
	}
	kids := []node{el("ResponseMetadata", leaf("RequestId", token(20)))}
	if len(answer.kids) > 0 {
		kids = append([]node{answer.named(name + "Result")}, kids...)
	}
	write(w, http.StatusOK, node{name: name + "Response", space: space, kids: kids})
}

// do checks the signature and runs the call.
func (s *Server) do(r *http.Request, body []byte, form url.Values, name string) (node, *apiError) {
	now := time.Now()
	sig, ok := parseSignature(r.Header.Get("Authorization"))
	if !ok {
		return node{}, &apiError{403, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[sig.keyID]
	if k == nil {
		return node{}, &apiError{403, "InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	if fail := sig.verify(r, body, k.secret, now); fail != nil {
		return node{}, fail
	}
	if k.token != "" && r.Header.Get("X-Amz-Security-Token") != k.token {
		return node{}, &apiError{403, "InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	if code := s.live(k, now); code != "" {
		return node{}, &apiError{403, code, "The security token included in the request is invalid."}
	}
	k.used = append(k.used, use{now, sig.service})
	c := &call{server: s, who: callerOf(k), form: form, now: now}
	if run, ok := stsActions[name]; ok && sig.service == "sts" {
		if u := c.who.user; u != nil && u.permits != nil && name != "GetCallerIdentity" && name != "GetSessionToken" &&
			!u.permits.allows(c, "sts:"+name, c.resource()) {
			return node{},
				&apiError{403, "AccessDenied", "User: " + c.who.arn + " is not authorized to perform: sts:" + name}
		}
		return run(c)
	}
	run, ok := iamActions[name]
	switch {
	case !ok || sig.service != "iam":
		return node{}, &apiError{400, "InvalidAction", "Could not find operation " + name}
	case !c.mayCall():
		return node{},
			&apiError{403, "AccessDenied",
				"User: " + c.who.arn + " is not authorized to perform: iam:" + name + " on resource: " + c.resource() +
					" because no identity-based policy allows the iam:" + name + " action"}
	}
	return run(c)
}

func callerOf(k *key) caller {
	if k.user == nil {
		return caller{key: k, account: k.session.account, arn: k.session.arn, id: "AROA" + k.id[4:],
			admin: k.session.admin}
	}
	u := k.user
	return caller{key: k, account: u.account, arn: u.arn(), id: u.id, admin: u.admin, user: u}
}

// mayCall reports whether the caller may make the call. Administrators may make all calls, users
// with a policy those that it allows, and others those about their own keys.
func (c *call) mayCall() bool {
	switch u := c.who.user; {
	case c.who.admin:
		return true
	case u != nil && u.permits != nil:
		return c.permitted(u.permits)
	}
	name := c.get("UserName")
	return c.who.user != nil && (name == "" || name == c.who.user.name) &&
		strings.Contains(c.get("Action"), "AccessKey")
}
