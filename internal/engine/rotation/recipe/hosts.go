package recipe

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/outbound"
)

// A call to a host that the recipe does not name is refused. The functions here find such a URL
// earlier where they can: when the recipe is written, and when it is bound to parameters. In the
// middle of a rotation at night, it is too late.

// steps returns the steps of the recipe, each of which makes a request.
func (r *recipe) steps() (all []*step) {
	if r.create != nil {
		all = append(all, &r.create.step)
		if r.create.poll != nil {
			all = append(all, &r.create.poll.step)
		}
	}
	if r.verify != nil {
		all = append(all, &r.verify.step)
	}
	if r.list != nil {
		all = append(all, &r.list.step)
	}
	if r.lastUsed != nil {
		all = append(all, &r.lastUsed.step)
	}
	for _, s := range []*removalStep{r.disable, r.retire} {
		if s != nil {
			all = append(all, &s.step)
		}
	}
	for _, s := range all {
		if s.read != nil {
			all = append(all, &s.read.step)
		}
	}
	return all
}

// checkHosts checks the hosts that are written out, and the URLs that begin with a literal.
func (r *recipe) checkHosts(wrong *problems) {
	if r.hosts == nil {
		return
	}
	var origins []outbound.Origin
	for _, host := range r.def.Hosts {
		if strings.Contains(host, "${") || host == "computed" {
			origins = nil // the host is known only with the params
			break
		}
		origin, err := outbound.ParseOrigin(host)
		if err != nil {
			wrong.add(r.hosts.Range(), "hosts: %s", fault.Message(err))
			return
		}
		origins = append(origins, origin)
	}
	for _, s := range r.steps() {
		if why := urlProblem(s, cty.NilVal, origins); why != "" {
			wrong.add(s.url.Range(), "%s", why)
		}
	}
}

// urlProblem returns the reason why a step's URL cannot be called, as far as that is known before
// the call, or "" if it finds none. params is cty.NilVal while the parameters are not known.
// origins is empty while the allowed hosts are not known.
func urlProblem(s *step, params cty.Value, origins []outbound.Origin) string {
	if s.url == nil {
		return ""
	}
	text, whole := urlPrefix(s.url, params)
	scheme, rest, absolute := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?")
	switch {
	case !absolute && (whole || strings.Contains(text, "/")):
		return fmt.Sprintf("the url of %s begins with %q, which is not a URL: it must begin with https://, or with "+
			"http:// and a loopback address; write that before the host", s.name, clip(text))
	case !absolute, end < 0 && !whole:
		return "" // the rest is known only at the call
	case end >= 0:
		rest = rest[:end]
	}
	origin, err := outbound.ParseOrigin(scheme + "://" + rest)
	switch {
	case err != nil:
		return fmt.Sprintf("the url of %s: %s", s.name, fault.Message(err))
	case len(origins) > 0 && !slices.Contains(origins, origin):
		return fmt.Sprintf("the url of %s leads to %q, but hosts allows only %q; a host without a scheme means "+
			"https; write %q in hosts, or correct the url", s.name, origin, origins, scheme+"://"+rest)
	}
	return ""
}

// urlPrefix returns the beginning of a URL: its literals and single parameters, up to the first
// part that only the call knows. whole reports whether that is the whole URL.
func urlPrefix(e hcl.Expression, params cty.Value) (text string, whole bool) {
	switch n := unmetered(e).(type) {
	case *hclsyntax.LiteralValueExpr:
		if n.Val.Type() == cty.String && !n.Val.IsNull() {
			return n.Val.AsString(), true
		}
	case *hclsyntax.TemplateWrapExpr:
		return urlPrefix(n.Wrapped, params)
	case *hclsyntax.TemplateExpr:
		for _, part := range n.Parts {
			more, all := urlPrefix(part, params)
			if text += more; !all {
				return text, false
			}
		}
		return text, true
	case *hclsyntax.ScopeTraversalExpr:
		if params == cty.NilVal || n.Traversal.RootName() != "param" || len(n.Traversal) != 2 {
			return "", false
		}
		if name := stepName(n.Traversal[1]); params.Type().HasAttribute(name) {
			if v := params.GetAttr(name); v.Type() == cty.String && !v.IsNull() {
				return v.AsString(), true
			}
		}
	}
	return "", false
}
