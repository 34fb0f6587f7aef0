package sys

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/route"
	"github.com/keyturn/keyturn/internal/secret"
)

func toolRoutes() []route.Route {
	return []route.Route{
		route.On(route.Write, "tools/random", random).WithHelp("Random bytes."),
		route.On(route.Write, "tools/random/{first}", random).WithParam("first", "How many bytes, or platform.").
			WithHelp("Random bytes, by the path."),
		route.On(route.Write, "tools/random/{first}/{second}", random).WithParam("first", "platform.").
			WithParam("second", "How many bytes.").WithHelp("Random bytes, by the path."),
		route.On(route.Write, "tools/hash", hash).WithHelp("Hash data."),
		route.On(route.Write, "tools/hash/{algorithm}", hash).WithParam("algorithm",
			"The hash: sha2-224 to sha2-512, sha3-224 to sha3-512.").WithHelp("Hash data, by the path."),
	}
}

type randomIn struct {
	Bytes  int    `json:"bytes" default:"32" doc:"How many bytes, at most 131072."`
	Format string `json:"format" default:"base64" doc:"How they are written: base64 or hex."`
	Source string `json:"source" default:"platform" doc:"Where they come from: platform."`
}

type randomOut struct {
	Bytes secret.Value `json:"random_bytes"`
}

func random(_ context.Context, r *route.Request, in randomIn) (*randomOut, error) {
	n := in.Bytes
	for _, part := range []string{r.Param("first"), r.Param("second")} {
		if m, err := strconv.Atoi(part); err == nil {
			n = m
		} else if part != "" && part != "platform" {
			return nil, fault.New("sys.random", fault.Invalid,
				"parameter \"source\": %q is not supported; use \"platform\"", part)
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
	return "", fault.New("sys.encode", fault.Invalid, "parameter \"format\" must be \"base64\" or \"hex\", not %q",
		format)
}

type hashIn struct {
	Algorithm string       `json:"algorithm" default:"sha2-256" doc:"The hash: sha2-224 to sha2-512, sha3-224 to sha3-512."`
	Input     secret.Value `json:"input" max:"33554432" doc:"What to hash, in base64."`
	Format    string       `json:"format" default:"hex" doc:"How the hash is written: hex or base64."`
}

type hashOut struct {
	Sum string `json:"sum"`
}

func hash(_ context.Context, r *route.Request, in hashIn) (*hashOut, error) {
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
		return nil, fault.New("sys.hash", fault.Invalid,
			"parameter \"algorithm\": %q is not supported; use sha2-224, sha2-256, sha2-384, sha2-512, or the same "+
				"sizes of sha3",
			name)
	}
	format := in.Format
	if format == "" {
		format = "hex"
	}
	text, err := encodeBytes(format, sum)
	return &hashOut{text}, err
}
