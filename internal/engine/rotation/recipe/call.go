package recipe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/rotate"
)

// A caller sends the requests of one source and checks the replies.
type caller struct {
	recipe     string // its name, for errors
	eval       *evaluator
	client     *http.Client
	onExchange func(rotate.Exchange) // may be nil
}

// A reply is a provider's reply, read completely.
type reply struct {
	status int
	header http.Header
	vars   scope // the request's, and "response"
}

// maxQuote is the maximum number of bytes of a failed reply that the cause of an error quotes,
// after redaction.
const maxQuote = 400

// send sends one request once and reads the reply, after the request that st reads first. Every
// error that send returns is a [rotate.Failure].
func (c *caller) send(ctx context.Context, st *step, vars scope) (*reply, error) {
	vars, err := c.readFirst(ctx, st, vars)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, st.timeout)
	defer cancel()
	request, err := c.eval.request(ctx, st, vars)
	if err != nil {
		return nil, c.invalidRequest(st, err)
	}
	if st.auth != nil && st.auth.kind == "digest" {
		return c.sendDigest(ctx, st, request, vars)
	}
	return c.exchange(ctx, st, request, vars)
}

// readFirst makes the request that a step reads first, and adds its value to the variables.
func (c *caller) readFirst(ctx context.Context, st *step, vars scope) (scope, error) {
	if st.read == nil {
		return vars, nil
	}
	r, err := c.send(ctx, &st.read.step, vars)
	if err == nil {
		err = c.check(&st.read.step, r)
	}
	if err != nil {
		return nil, err
	}
	v, err := c.eval.value(st.read.value, r.vars)
	if err != nil {
		return nil, c.failure(&st.read.step, rotate.Permanent, fault.Upstream,
			"the reply does not hold what the recipe says: "+fault.Message(err), nil)
	}
	return vars.with(scope{"read": v}), nil
}

// sendDigest sends a request that authenticates with a digest. The challenge is asked for by a
// request without a body, so that no provider can act on it.
func (c *caller) sendDigest(ctx context.Context, st *step, request *http.Request, vars scope) (*reply, error) {
	bare := request.Clone(ctx)
	bare.Body, bare.GetBody, bare.ContentLength = nil, nil, 0
	bare.Header.Del("Content-Type")
	asking := *st
	asking.changes = false
	r, err := c.exchange(ctx, &asking, bare, vars)
	switch {
	case err != nil:
		return nil, err
	case r.status >= 300 && r.status != http.StatusUnauthorized:
		return nil, c.unexpected(&asking, r, outcomeByStatus(r.status, false), nil)
	case r.status != http.StatusUnauthorized:
		outcome := rotate.Permanent
		if st.changes {
			outcome = rotate.Unknown
		}
		return nil, c.failure(st, outcome, fault.Upstream, "the provider did not ask for authentication, so its "+
			"reply proves nothing; check the address", nil)
	}
	challenge, err := parseChallenges(r.header.Values("WWW-Authenticate"))
	if err == nil {
		err = c.eval.answer(request, challenge, st.auth, vars)
	}
	if err != nil {
		return nil, c.invalidRequest(st, err)
	}
	r, err = c.exchange(ctx, st, request, vars)
	if err == nil && r.status == http.StatusUnauthorized {
		if again, err := parseChallenges(r.header.Values("WWW-Authenticate")); err == nil && again.stale {
			return nil, c.failure(st, rotate.Transient, fault.Upstream,
				"the provider did not accept its own nonce; the credentials were not tried", nil)
		}
	}
	return r, err
}

// exchange sends a request, reads the reply and reports both.
func (c *caller) exchange(ctx context.Context, st *step, request *http.Request, vars scope) (*reply, error) {
	x := c.describe(st, request)
	r, err := c.roundTrip(ctx, st, request, vars)
	if c.onExchange != nil {
		x = x.Ended()
		if r != nil {
			x.Status, x.Reply = r.status, rotate.ShowReply(c.eval.redactor, r.status,
				[]byte(r.vars["response"].GetAttr("body").AsString()), st.creates())
		}
		if err != nil {
			x.Error = fault.Message(err)
		}
		c.onExchange(x)
	}
	return r, err
}

// describe describes a request before it is sent.
func (c *caller) describe(st *step, r *http.Request) rotate.Exchange {
	x := rotate.Exchange{At: time.Now().UTC(), Step: st.name, Method: r.Method, Host: r.URL.Host,
		Path: c.eval.redactor.Scrub(r.URL.EscapedPath())}
	if c.onExchange == nil {
		return x
	}
	for _, p := range slices.Sorted(maps.Keys(r.URL.Query())) {
		x.Query = append(x.Query, c.eval.redactor.Scrub(p))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		value := c.eval.redactor.Scrub(strings.Join(r.Header[name], ", "))
		if name == "Authorization" {
			scheme, _, _ := strings.Cut(value, " ")
			value = scheme + " [secret]"
		}
		x.Headers = append(x.Headers, name+": "+value)
	}
	if r.GetBody != nil {
		if body, err := r.GetBody(); err == nil {
			sent, _ := io.ReadAll(io.LimitReader(body, maxText))
			x.Body = c.eval.redactor.Scrub(string(sent))
		}
	}
	return x
}

// A requestInfo holds the step of a request and the variables of its expressions. requestInfoKey
// is its key in the request's context.
type (
	requestInfo struct {
		step *step
		vars scope
	}
	requestInfoKey struct{}
)

// roundTrip sends the request and reads the whole reply.
func (c *caller) roundTrip(ctx context.Context, st *step, request *http.Request, vars scope) (*reply, error) {
	// Once there is a connection, part of the request may have been sent.
	var sent atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }}
	ctx = context.WithValue(httptrace.WithClientTrace(ctx, trace), requestInfoKey{}, &requestInfo{st, vars})
	resp, err := c.client.Do(request.WithContext(ctx))
	if err != nil {
		return nil, c.noReply(ctx, st, request.URL.Host, sent.Load(), err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols { // its body outlives the deadline
		return nil, c.noReply(ctx, st, request.URL.Host, true, errors.New("the provider wants another protocol"))
	}
	data, err := io.ReadAll(resp.Body)
	if fault.Is(err, fault.TooLarge) {
		err = fault.New("recipe.send", fault.TooLarge,
			"the reply to %s is larger than %d KiB; let the recipe ask for less", st.name, maxReply>>10)
	}
	if err != nil && resp.StatusCode < 400 {
		return nil, c.noReply(ctx, st, request.URL.Host, true, err)
	}
	return c.withResponse(resp, data, vars), nil
}

// noReply returns the failure of a request that got no complete reply.
func (c *caller) noReply(ctx context.Context, st *step, host string, sent bool, err error) error {
	kind, outcome, msg := fault.Upstream, rotate.Transient, "the provider cannot be reached"
	if sent {
		msg = "the provider's reply is incomplete"
		if st.changes {
			outcome = rotate.Unknown
		}
	}
	switch k := fault.KindOf(err); {
	case k == fault.Denied, k == fault.Invalid:
		kind, outcome, msg = k, rotate.Permanent, fault.Message(err)
	case k == fault.TooLarge:
		kind, msg = k, fault.Message(err)
		if !st.changes {
			outcome = rotate.Permanent
		}
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && !sent:
		kind, msg = fault.Timeout, "no connection to "+host+" within "+st.timeout.String()+
			"; check whether a firewall drops this server's packets"
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		kind, msg = fault.Timeout, host+" did not answer within "+st.timeout.String()+
			"; check whether the provider is slow, or give the recipe's request a longer timeout"
	default:
		msg = cmp.Or(connectionError(err, host), msg)
	}
	return c.failure(st, outcome, kind, msg, err)
}

// withResponse adds the variable "response" to the variables of the request.
func (c *caller) withResponse(resp *http.Response, data []byte, vars scope) *reply {
	headers := map[string]cty.Value{}
	for name, values := range resp.Header {
		headers[strings.ToLower(name)] = cty.StringVal(strings.Join(values, ", "))
	}
	header := cty.MapValEmpty(cty.String)
	if len(headers) > 0 {
		header = cty.MapVal(headers)
	}
	parsed, err := parseJSON(data)
	if err != nil {
		parsed = cty.NullVal(cty.DynamicPseudoType)
	}
	return &reply{resp.StatusCode, resp.Header, vars.with(scope{"response": cty.ObjectVal(map[string]cty.Value{
		"status":  cty.NumberIntVal(int64(resp.StatusCode)),
		"json":    parsed,
		"body":    cty.StringVal(string(data)),
		"headers": header,
	})})}
}

// expected reports whether the reply has a status that the step accepts and meets the step's
// condition. A condition that cannot be evaluated is not met.
func (c *caller) expected(st *step, r *reply) (bool, error) {
	if !slices.Contains(st.status, r.status) {
		return false, nil
	}
	return c.eval.boolean(st.when, r.vars, true)
}

// check turns an unexpected reply into a failure. check returns nil for an expected reply.
func (c *caller) check(st *step, r *reply) error {
	ok, err := c.expected(st, r)
	if ok && err == nil {
		return nil
	}
	outcome, known := c.classified(st, r)
	if !known {
		outcome = outcomeByStatus(r.status, st.changes)
	}
	return c.unexpected(st, r, outcome, err)
}

// classified returns the outcome that the recipe gives an unexpected reply, if it gives one.
func (c *caller) classified(st *step, r *reply) (o rotate.Outcome, known bool) {
	for _, f := range st.fails {
		if hit, err := c.eval.boolean(f.when, r.vars, false); err == nil && hit {
			return f.outcome, true
		}
	}
	return o, false
}

// unexpected returns the failure of an unexpected reply. unexpected quotes only replies with an
// error status, because a successful reply may hold a new key.
func (c *caller) unexpected(st *step, r *reply, outcome rotate.Outcome, cause error) error {
	msg := fmt.Sprintf("the provider answered %d, want %s", r.status, statusText(st.status))
	switch {
	case slices.Contains(st.status, r.status):
		msg = fmt.Sprintf("the provider answered %d, but the reply does not meet the recipe's condition", r.status)
	case r.status/100 == 3:
		msg += "; redirects are not followed; correct the address"
	case r.status == 403 && outcome == rotate.Permanent:
		msg += ", so it refuses the admin credentials, or they lack a permission, or a limit is reached; see the " +
			"reply, and correct that at the provider or give other credentials"
	case r.status == 401 && outcome == rotate.Permanent:
		msg += ", so it refuses the admin credentials, or they lack a permission; correct them, or their " +
			"permissions at the provider"
	}
	if cause == nil && r.status >= 400 {
		cause = errors.New("the reply: " + strconv.Quote(c.quote(st, r)))
	}
	f := c.failure(st, outcome, fault.Upstream, msg, cause)
	f.Status = r.status
	f.Repeats = r.status/100 == 2 && outcome == rotate.Unknown
	f.RetryAfter = retryAfter(r.header.Get("Retry-After"), time.Now())
	return f
}

// quote returns the beginning of a reply, as far as [rotate.ShowReply] allows. A failed creating
// call may have created a key all the same, and its reply may hold a secret that no redactor
// knows.
func (c *caller) quote(st *step, r *reply) string {
	whole := rotate.ShowReply(c.eval.redactor, r.status, []byte(r.vars["response"].GetAttr("body").AsString()),
		st.creates())
	if len(whole) > maxQuote {
		whole = strings.ToValidUTF8(whole[:maxQuote], "") + "…"
	}
	return whole
}

func statusText(want []int) string {
	var out []string
	for _, n := range want {
		out = append(out, strconv.Itoa(n))
	}
	return strings.Join(out, " or ")
}

// outcomeByStatus returns the outcome of a status that the recipe does not classify.
func outcomeByStatus(status int, changes bool) rotate.Outcome {
	switch {
	case status == 408 || status == 425 || status == 429:
		return rotate.Transient
	case status >= 500 && changes:
		return rotate.Unknown // a gateway sends this when it gives up waiting for the call
	case status >= 500:
		return rotate.Transient
	case changes && (status < 300 || status == 302 || status == 303):
		return rotate.Unknown // something was done, but not known what
	}
	return rotate.Permanent
}

// retryAfter parses a Retry-After header, in seconds or as a date. retryAfter returns at most one
// day.
func retryAfter(header string, now time.Time) time.Duration {
	var d time.Duration
	if n, err := strconv.ParseUint(header, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(header); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), 24*time.Hour)
}

// failure builds a failure. msg must be in our own words. The cause passes through the redactor,
// because it may quote the provider.
func (c *caller) failure(st *step, o rotate.Outcome, k fault.Kind, msg string, cause error) *rotate.Failure {
	return &rotate.Failure{Outcome: o, Err: &fault.Error{
		Op:   "recipe." + st.name,
		Kind: k,
		Msg:  fmt.Sprintf("recipe %q, %s: %s", c.recipe, st.name, msg),
		Err:  c.eval.redactor.Error(cause),
	}}
}

// invalidRequest returns the failure of a request that could not be built from the recipe. No call
// was made.
func (c *caller) invalidRequest(st *step, err error) *rotate.Failure {
	return c.failure(st, rotate.Permanent, fault.KindOf(err), fault.Message(err), nil)
}

// unsupported returns the failure of an operation that the recipe has no block for.
func (c *caller) unsupported(name string) error {
	return c.failure(&step{name: name}, rotate.Permanent, fault.Unsupported, "the recipe has no block "+name, nil)
}
