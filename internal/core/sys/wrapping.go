package sys

import (
	"context"
	"encoding/json"
	"time"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

// wrappingAPI serves sys/wrapping.
type wrappingAPI struct{ Config }

func (a *wrappingAPI) routes() []route.Route {
	return []route.Route{
		route.On(route.Write, "wrapping/wrap", a.wrapData).WithHelp("Wrap the request's body."),
		route.On(route.Write, "wrapping/unwrap", a.unwrap).WithPublic().WithHelp("Open a wrapped answer, once."),
		route.On(route.Write, "wrapping/lookup", a.lookupWrapped).WithPublic().
			WithHelp("When and where an answer was wrapped."),
		route.On(route.Read, "wrapping/lookup", a.lookupWrapped).WithPublic().
			WithHelp("When and where the answer behind the caller's token was wrapped."),
		route.On(route.Write, "wrapping/rewrap", a.rewrap).WithPublic().
			WithHelp("Wrap the answer again, under a new token."),
	}
}

type wrapIn struct {
	//lint:ignore SA5008 the option is wire's
	Data wire.Raw `json:",whole" doc:"What to wrap, any fields."`
}

func (a *wrappingAPI) wrapData(_ context.Context, r *route.Request, in wrapIn) (*wire.Raw, error) {
	if r.WrapTTL <= 0 {
		return nil, fault.New("sys.wrap", fault.Invalid,
			"header X-Vault-Wrap-TTL: endpoint requires response wrapping to be used; say for how long, for example "+
				"\"5m\"")
	}
	if !in.Data.IsObject() {
		in.Data = wire.RawOf([]byte("{}"))
	}
	return &in.Data, nil
}

type wrappedIn struct {
	Token secret.Value `json:"token" default:"the caller's own" doc:"The wrapping token."`
}

// token is the wrapping token: the one in the body or, without it, the caller's.
func (in *wrappedIn) token(r *route.Request) secret.Value {
	if !in.Token.Empty() {
		return in.Token
	}
	return r.Token
}

func (a *wrappingAPI) unwrap(ctx context.Context, r *route.Request, in wrappedIn) (*wire.Raw, error) {
	got, err := a.Wrapping.Unwrap(ctx, in.token(r))
	if err != nil {
		return nil, err
	}
	r.SetShape(route.Bare)
	raw := wire.RawOf(got.Body)
	return &raw, nil
}

type wrappedOut struct {
	CreationPath string        `json:"creation_path"`
	CreationTime time.Time     `json:"creation_time"`
	CreationTTL  time.Duration `json:"creation_ttl"`
}

func (a *wrappingAPI) lookupWrapped(ctx context.Context, r *route.Request, in wrappedIn) (*wrappedOut, error) {
	got, err := a.Wrapping.Lookup(ctx, in.token(r))
	if err != nil {
		return nil, err
	}
	return &wrappedOut{got.Path, got.Created, got.TTL}, nil
}

func (a *wrappingAPI) rewrap(ctx context.Context, r *route.Request, in wrappedIn) (*wire.Raw, error) {
	tok, e, got, err := a.Wrapping.Rewrap(ctx, in.token(r))
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{
		"request_id": "", "lease_id": "", "renewable": false, "lease_duration": 0, "data": nil, "warnings": nil,
		"auth": nil,
		"wrap_info": map[string]any{
			"token": tok.RevealString(), "accessor": e.Accessor, "ttl": wire.Seconds(got.TTL),
			"creation_time": wire.FormatTime(e.Created), "creation_path": got.Path, "wrapped_accessor": got.Accessor,
		},
	})
	r.SetShape(route.Bare)
	raw := wire.RawOf(text)
	return &raw, err
}
