package cli

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/keyturn/keyturn/internal/secret"
)

// A client sends requests. It is the only code that passes paths to the API library, as [target]s.
type client struct {
	api              *api.Client
	asCurl, asPolicy bool     // the command's requests are printed and not sent
	last             access   // the last request
	announced        []access // the requests that the command sends next

	token      secret.Value // the token of the session
	serverName string       // the name that the certificate must have; by default that of the address
	socket     string       // the Unix socket of the server, if the address is one
}

func newClient(sender *api.Client, asCurl, asPolicy bool) *client {
	c := &client{asCurl: asCurl, asPolicy: asPolicy}
	base := ""
	if u, err := url.Parse(sender.Address()); err == nil {
		base = strings.TrimSuffix(u.Path, "/")
	}
	c.api = sender.WithRequestCallbacks(func(r *api.Request) { c.last = accessOf(r, base) })
	return c
}

// announce adds requests that the command sends if its first request succeeds. The policy that
// -output-policy prints includes them.
func (c *client) announce(accesses ...access) { c.announced = append(c.announced, accesses...) }

func (c *client) read(ctx context.Context, t target, params url.Values) (*api.Secret, error) {
	return c.api.Logical().ReadWithDataWithContext(ctx, string(t), params)
}

func (c *client) list(ctx context.Context, t target) (*api.Secret, error) {
	return c.api.Logical().ListWithContext(ctx, string(t))
}

func (c *client) write(ctx context.Context, t target, body map[string]any) (*api.Secret, error) {
	return c.api.Logical().WriteWithContext(ctx, string(t), body)
}

// patch sends a JSON merge patch.
func (c *client) patch(ctx context.Context, t target, body map[string]any) (*api.Secret, error) {
	return c.api.Logical().JSONMergePatch(ctx, string(t), body)
}

func (c *client) remove(ctx context.Context, t target, params url.Values) (*api.Secret, error) {
	return c.api.Logical().DeleteWithDataWithContext(ctx, string(t), params)
}

func (c *client) help(ctx context.Context, t target) (*api.Help, error) {
	return c.api.HelpWithContext(ctx, string(t))
}

// raw sends a request and returns the answer without decoding it.
func (c *client) raw(ctx context.Context, method string, t target, params url.Values,
	body map[string]any) (*api.Response, error) {
	request := c.api.NewRequest(method, "/v1/"+string(t))
	for key, values := range params {
		request.Params[key] = values
	}
	if body != nil {
		if err := request.SetJSONBody(body); err != nil {
			return nil, err
		}
	}
	//lint:ignore SA1019 nothing else sends a request unchanged
	return c.api.RawRequestWithContext(ctx, request)
}

// fields sends a request whose answer is an object without the usual envelope.
func (c *client) fields(ctx context.Context, method string, t target, body map[string]any) (map[string]any, error) {
	response, err := c.raw(ctx, method, t, nil, body)
	if response != nil {
		defer response.Body.Close()
	}
	if err != nil {
		return nil, err
	}
	var fields map[string]any
	err = response.DecodeJSON(&fields)
	return fields, err
}

// get is fields with GET and no body.
func (c *client) get(ctx context.Context, t target) (map[string]any, error) {
	return c.fields(ctx, http.MethodGet, t, nil)
}

// preliminary sends a request whose answer the command's main request needs. With
// -output-curl-string it is sent all the same; with -output-policy it becomes part of the policy.
func (c *client) preliminary(request func() error) error {
	if c.asPolicy {
		return request()
	}
	return c.auxiliary(request)
}

// auxiliary sends a request that is not the command's own. It is sent even if the command only
// prints its requests, and its answer is not wrapped.
func (c *client) auxiliary(request func() error) error {
	wrap, last := c.api.CurrentWrappingLookupFunc(), c.last
	c.api.SetWrappingLookupFunc(func(string, string) string { return "" })
	c.api.SetOutputCurlString(false)
	c.api.SetOutputPolicy(false)
	defer func() {
		c.api.SetWrappingLookupFunc(wrap)
		c.api.SetOutputCurlString(c.asCurl)
		c.api.SetOutputPolicy(c.asPolicy)
		c.last = last
	}()
	return request()
}
