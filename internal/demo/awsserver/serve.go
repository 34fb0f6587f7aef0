package awsserver

import (
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// apiError is an error as AWS answers it.
type apiError struct {
	status        int
	code, message string
}

// A caller is who signed a call.
type caller struct {
	key     *key
	account *account
	arn, id string
	admin   bool
	user    *user // nil: a session
}

// A call is one request, with its signature checked.
type call struct {
	*Server
	who  caller
	form url.Values
	now  time.Time
}

func (c *call) get(name string) string { return c.form.Get(name) }

// list is a parameter such as PolicyArns.member.1.arn.
func (c *call) list(name, field string) (values []string) {
	for i := 1; ; i++ {
		at := name + ".member." + strconv.Itoa(i)
		if field != "" {
			at += "." + field
		}
		if !c.form.Has(at) {
			return values
		}
		values = append(values, c.form.Get(at))
	}
}

// An action is one call of the API. It runs under the server's lock.
type action func(c *call) (node, *apiError)

const bodyMax = 1 << 20

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
	c := &call{Server: s, who: callerOf(k), form: form, now: now}
	if run, ok := stsActions[name]; ok && sig.service == "sts" {
		if u := c.who.user; u != nil && u.permits != nil && name != "GetCallerIdentity" && name != "GetSessionToken" && !u.permits.allows(c, "sts:"+name, c.resource()) {
			return node{}, &apiError{403, "AccessDenied", "User: " + c.who.arn + " is not authorized to perform: sts:" + name}
		}
		return run(c)
	}
	run, ok := iamActions[name]
	switch {
	case !ok || sig.service != "iam":
		return node{}, &apiError{400, "InvalidAction", "Could not find operation " + name}
	case !c.mayCall():
		return node{}, &apiError{403, "AccessDenied", "User: " + c.who.arn + " is not authorized to perform: iam:" + name + " on resource: " + c.resource() + " because no identity-based policy allows the iam:" + name + " action"}
	}
	return run(c)
}

func callerOf(k *key) caller {
	if k.user == nil {
		return caller{key: k, account: k.session.account, arn: k.session.arn, id: "AROA" + k.id[4:], admin: k.session.admin}
	}
	u := k.user
	return caller{key: k, account: u.account, arn: u.arn(), id: u.id, admin: u.admin, user: u}
}

// mayCall: administrators may call all, users with a policy what it allows, others about their own keys only.
func (c *call) mayCall() bool {
	switch u := c.who.user; {
	case c.who.admin:
		return true
	case u != nil && u.permits != nil:
		return c.permitted(u.permits)
	}
	name := c.get("UserName")
	return c.who.user != nil && (name == "" || name == c.who.user.name) && strings.Contains(c.get("Action"), "AccessKey")
}

func (u *user) arn() string { return "arn:aws:iam::" + u.account.id + ":user" + u.path + u.name }

// A node is an element of an answer.
type node struct {
	name, space, text string
	kids              []node
}

func el(name string, kids ...node) node { return node{name: name, kids: kids} }
func leaf(name, text string) node       { return node{name: name, text: text} }
func when(name string, t time.Time) node {
	return leaf(name, t.UTC().Format("2006-01-02T15:04:05Z"))
}
func (n node) named(name string) node { n.name = name; return n }

// MarshalXML writes the element.
func (n node) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	start := xml.StartElement{Name: xml.Name{Local: n.name}}
	if n.space != "" {
		start.Attr = []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: n.space}}
	}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if n.text != "" {
		if err := e.EncodeToken(xml.CharData(n.text)); err != nil {
			return err
		}
	}
	for _, k := range n.kids {
		if err := e.Encode(k); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

func write(w http.ResponseWriter, status int, n node) {
	text, err := xml.Marshal(n)
	if err != nil {
		text, status = []byte(err.Error()), http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

func writeError(w http.ResponseWriter, f *apiError) {
	kind := "Sender"
	if f.status >= 500 {
		kind = "Receiver"
	}
	write(w, f.status, node{name: "ErrorResponse", space: "https://iam.amazonaws.com/doc/2010-05-08/", kids: []node{
		el("Error", leaf("Type", kind), leaf("Code", f.code), leaf("Message", f.message)), leaf("RequestId", token(20)),
	}})
}

// page cuts a list as AWS does, by MaxItems and Marker.
func page[T any](c *call, all []T, render func(T) node) (kids []node, more []node) {
	size := c.o.PageSize
	if n, err := strconv.Atoi(c.get("MaxItems")); err == nil && n > 0 {
		size = min(n, size)
	}
	from, _ := strconv.Atoi(c.get("Marker"))
	from = min(max(from, 0), len(all))
	to := min(from+size, len(all))
	for _, one := range all[from:to] {
		kids = append(kids, render(one).named("member"))
	}
	more = []node{leaf("IsTruncated", strconv.FormatBool(to < len(all)))}
	if to < len(all) {
		more = append(more, leaf("Marker", strconv.Itoa(to)))
	}
	return kids, more
}
