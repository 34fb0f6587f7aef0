package config

import (
	"net/textproto"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/hcl/ast"
	"golang.org/x/net/http/httpguts"

	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// headers sets the headers of answers.
func headers(r *report, into **httpapi.Headers) setter {
	return func(item *ast.ObjectItem) {
		all := map[string]map[string]string{}
		for _, status := range r.block(item).Items {
			name := label(status, 0)
			if !httpapi.StatusName(name) {
				r.problem(r.at(status),
					"custom_response_headers: want \"default\", a class of statuses such as \"2xx\" or a status "+
						"such as \"307\", not %q",
					name)
				continue
			}
			if _, twice := all[name]; twice {
				r.problem(r.at(status), "custom_response_headers: %q is given twice; remove one", name)
			}
			all[name] = headersOf(r, status)
		}
		*into = httpapi.NewHeaders(all)
	}
}

// headersOf reads the headers of one status.
func headersOf(r *report, status *ast.ObjectItem) map[string]string {
	values := map[string]string{}
	for _, item := range r.block(status).Items {
		name := textproto.CanonicalMIMEHeaderKey(label(item, 0))
		texts, ok := headerValues(item)
		value := strings.Join(texts, "; ")
		switch {
		case !ok:
			r.problem(r.at(item), "custom_response_headers: %s: want a list of texts such as [\"value\"]", name)
		case !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value):
			r.problem(r.at(item), "custom_response_headers: %s is not a valid header name; check its characters",
				strconv.Quote(name))
		case httpapi.OwnHeader(name):
			r.warn(r.at(item),
				"custom_response_headers: %s is ignored, because the server sets this header itself; remove it",
				name)
		default:
			values[name] = value
		}
	}
	return values
}

// headerValues returns the texts of a list, or one text.
func headerValues(item *ast.ObjectItem) ([]string, bool) {
	nodes := []ast.Node{item.Val}
	if list, ok := item.Val.(*ast.ListType); ok {
		nodes = list.List
	}
	var all []string
	for _, n := range nodes {
		lit, ok := n.(*ast.LiteralType)
		if !ok {
			return nil, false
		}
		text, ok := lit.Token.Value().(string)
		if !ok {
			return nil, false
		}
		all = append(all, text)
	}
	return all, true
}
