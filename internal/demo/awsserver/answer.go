package awsserver

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// apiError is an error of the API.
type apiError struct {
	status        int
	code, message string
}

// A caller is the identity that signed a call.
type caller struct {
	key     *key
	account *account
	arn, id string
	admin   bool
	user    *user // nil for a session
}

// A call is a request whose signature is valid.
type call struct {
	server *Server
	who    caller
	form   url.Values
	now    time.Time
}

func (c *call) get(name string) string { return c.form.Get(name) }

// list returns a parameter such as PolicyArns.member.1.arn.
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

// An action runs one call of the API, with the server's lock.
type action func(c *call) (node, *apiError)

const bodyMax = 1 << 20

// A node is an XML element of an answer.
type node struct {
	name, space, text string
	kids              []node
}

func el(name string, kids ...node) node { return node{name: name, kids: kids} }

func leaf(name, text string) node { return node{name: name, text: text} }

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
		el("Error", leaf("Type", kind), leaf("Code", f.code), leaf("Message", f.message)),
		leaf("RequestId", token(20)),
	}})
}

// page returns a page of a list, by MaxItems and Marker.
func page[T any](c *call, all []T, render func(T) node) (kids []node, more []node) {
	size := c.server.o.PageSize
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
