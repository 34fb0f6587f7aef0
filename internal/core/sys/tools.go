package sys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"

	"github.com/keyturn/keyturn/internal/core/wrapping"
	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
	"github.com/keyturn/keyturn/internal/wire"
)

func (a *api) toolRoutes() []route.Route {
	return []route.Route{
		route.On(route.Write, "tools/random", a.random).WithHelp("Random bytes."),
		route.On(route.Write, "tools/random/{first}", a.random),
		route.On(route.Write, "tools/random/{first}/{second}", a.random),
		route.On(route.Write, "tools/hash", a.hash).WithHelp("Hash data."),
		route.On(route.Write, "tools/hash/{algorithm}", a.hash),
	}
}

type randomIn struct {
	Bytes  int    `json:"bytes"`
	Format string `json:"format"`
	Source string `json:"source"`
}

type randomOut struct {
	Bytes secret.Value `json:"random_bytes"`
}

func (a *api) random(_ context.Context, r *route.Request, in randomIn) (*randomOut, error) {
	n := in.Bytes
	for _, part := range []string{r.Param("first"), r.Param("second")} {
		if m, err := strconv.Atoi(part); err == nil {
			n = m
		} else if part != "" && part != "platform" {
			return nil, fault.New("sys.random", fault.Invalid, "the source %q is not there; only \"platform\" is", part)
		}
	}
	if n == 0 {
		n = 32
	}
	if n < 1 || n > 128*1024 {
		return nil, fault.New("sys.random", fault.Invalid, "parameter \"bytes\" must be from 1 to 131072, not %d", n)
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	text, err := encodeBytes(in.Format, b)
	return &randomOut{secret.Text(text)}, err
}

func encodeBytes(format string, b []byte) (string, error) {
	switch format {
	case "", "base64":
		return base64.StdEncoding.EncodeToString(b), nil
	case "hex":
		return hex.EncodeToString(b), nil
	}
	return "", fault.New("sys.encode", fault.Invalid, "parameter \"format\" must be \"base64\" or \"hex\", not %q", format)
}

type hashIn struct {
	Algorithm string       `json:"algorithm"`
	Input     secret.Value `json:"input"`
	Format    string       `json:"format"`
}

type hashOut struct {
	Sum string `json:"sum"`
}

func (a *api) hash(_ context.Context, r *route.Request, in hashIn) (*hashOut, error) {
	input, err := base64.StdEncoding.DecodeString(in.Input.RevealString())
	if err != nil {
		return nil, fault.New("sys.hash", fault.Invalid, "field \"input\" must be base64")
	}
	name := in.Algorithm
	if p := r.Param("algorithm"); p != "" {
		name = p
	}
	var sum []byte
	switch name {
	case "", "sha2-256":
		s := sha256.Sum256(input)
		sum = s[:]
	case "sha2-224":
		s := sha256.Sum224(input)
		sum = s[:]
	case "sha2-384":
		s := sha512.Sum384(input)
		sum = s[:]
	case "sha2-512":
		s := sha512.Sum512(input)
		sum = s[:]
	case "sha3-224":
		s := sha3.Sum224(input)
		sum = s[:]
	case "sha3-256":
		s := sha3.Sum256(input)
		sum = s[:]
	case "sha3-384":
		s := sha3.Sum384(input)
		sum = s[:]
	case "sha3-512":
		s := sha3.Sum512(input)
		sum = s[:]
	default:
		return nil, fault.New("sys.hash", fault.Invalid, "parameter \"algorithm\": %q is not there; there are sha2-224, sha2-256, sha2-384, sha2-512, and the same of sha3", name)
	}
	format := in.Format
	if format == "" {
		format = "hex"
	}
	text, err := encodeBytes(format, sum)
	return &hashOut{text}, err
}

func (a *api) wrappingRoutes() []route.Route {
	return []route.Route{
		route.On(route.Write, "wrapping/wrap", a.wrapData).WithHelp("Wrap the request's body."),
		route.On(route.Write, "wrapping/unwrap", a.unwrap).WithPublic().WithHelp("Open a wrapped answer, once."),
		route.On(route.Write, "wrapping/lookup", a.lookupWrapped).WithPublic().WithHelp("When and where an answer was wrapped."),
		route.On(route.Read, "wrapping/lookup", a.lookupWrapped).WithPublic(),
		route.On(route.Write, "wrapping/rewrap", a.rewrap).WithPublic().WithHelp("Wrap anew, under a new token."),
	}
}

type wrapIn struct {
	Data wire.Raw `json:",whole"`
}

func (a *api) wrapData(_ context.Context, r *route.Request, in wrapIn) (*wire.Raw, error) {
	if r.WrapTTL <= 0 {
		return nil, fault.New("sys.wrap", fault.Invalid, "header X-Vault-Wrap-TTL: endpoint requires response wrapping to be used; say for how long, for example \"5m\"")
	}
	if !in.Data.IsObject() {
		in.Data = wire.RawOf([]byte("{}"))
	}
	return &in.Data, nil
}

type wrappedIn struct {
	Token secret.Value `json:"token"`
}

// token is the wrapping token: the body's, else the one that the request was made with.
func (in *wrappedIn) of(r *route.Request) secret.Value {
	if !in.Token.Empty() {
		return in.Token
	}
	return r.Token
}

func (a *api) unwrap(ctx context.Context, r *route.Request, in wrappedIn) (*wire.Raw, error) {
	got, err := a.Wrapping.Unwrap(ctx, in.of(r))
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

func (a *api) lookupWrapped(ctx context.Context, r *route.Request, in wrappedIn) (*wrappedOut, error) {
	got, err := a.Wrapping.Lookup(ctx, in.of(r))
	if err != nil {
		return nil, err
	}
	return &wrappedOut{got.Path, got.Created, got.TTL}, nil
}

func (a *api) rewrap(ctx context.Context, r *route.Request, in wrappedIn) (*wire.Raw, error) {
	got, err := a.Wrapping.Unwrap(ctx, in.of(r))
	if err != nil {
		return nil, err
	}
	tok, e, err := a.Wrapping.Wrap(ctx, wrapping.Answer{Path: got.Path, TTL: got.TTL, Body: got.Body, Accessor: got.Accessor}, nil)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(map[string]any{
		"request_id": "", "lease_id": "", "renewable": false, "lease_duration": 0, "data": nil, "warnings": nil, "auth": nil,
		"wrap_info": map[string]any{
			"token": tok.RevealString(), "accessor": e.Accessor, "ttl": wire.Seconds(got.TTL),
			"creation_time": wire.FormatTime(e.Created), "creation_path": got.Path, "wrapped_accessor": got.Accessor,
		},
	})
	r.SetShape(route.Bare)
	raw := wire.RawOf(text)
	return &raw, err
}
