package awsserver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// maxSkew limits the difference between the time of a request and the server's.
const maxSkew = 5 * time.Minute

// signature is the content of an Authorization header.
type signature struct {
	keyID, date, region, service string
	headers                      []string
	mac                          string
}

func parseSignature(header string) (sig signature, ok bool) {
	rest, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return sig, false
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			scope := strings.Split(value, "/")
			if len(scope) != 5 || scope[4] != "aws4_request" {
				return sig, false
			}
			sig.keyID, sig.date, sig.region, sig.service = scope[0], scope[1], scope[2], scope[3]
		case "SignedHeaders":
			sig.headers = strings.Split(value, ";")
		case "Signature":
			sig.mac = value
		}
	}
	return sig, sig.keyID != "" && sig.mac != "" && slices.Contains(sig.headers, "host")
}

// verify returns the error for a signed request that is refused, or nil.
func (sig signature) verify(r *http.Request, body []byte, secret string, now time.Time) *apiError {
	stamp := r.Header.Get("X-Amz-Date")
	at, err := time.Parse("20060102T150405Z", stamp)
	switch {
	case err != nil || !strings.HasPrefix(stamp, sig.date):
		return &apiError{403, "IncompleteSignature",
			"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP"}
	case at.Sub(now).Abs() > maxSkew:
		return &apiError{403, "SignatureDoesNotMatch",
			"Signature expired: " + stamp + " is too far from " + now.UTC().Format("20060102T150405Z")}
	}
	if !hmac.Equal([]byte(sig.sum(r, body, secret)), []byte(sig.mac)) {
		return &apiError{403, "SignatureDoesNotMatch", "The request signature we calculated does not match the " +
			"signature you provided. Check your AWS Secret Access Key and signing method."}
	}
	return nil
}

// sum returns the right signature of a request.
func (sig signature) sum(r *http.Request, body []byte, secret string) string {
	mac := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	sum := sha256.Sum256([]byte(sig.canonical(r, body)))
	text := strings.Join([]string{"AWS4-HMAC-SHA256", r.Header.Get("X-Amz-Date"),
		strings.Join([]string{sig.date, sig.region, sig.service, "aws4_request"}, "/"),
		hex.EncodeToString(sum[:])}, "\n")
	k := mac(mac(mac(mac([]byte("AWS4"+secret), sig.date), sig.region), sig.service), "aws4_request")
	return hex.EncodeToString(mac(k, text))
}

// canonical returns the canonical form of a request, which is signed.
func (sig signature) canonical(r *http.Request, body []byte) string {
	sum := sha256.Sum256(body)
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range sig.headers {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			if value == "" {
				value = r.Header.Get("Content-Length")
			}
		}
		b.WriteString(name + ":" + strings.Join(strings.Fields(value), " ") + "\n")
	}
	b.WriteString("\n" + strings.Join(sig.headers, ";") + "\n" + hex.EncodeToString(sum[:]))
	return b.String()
}

func canonicalQuery(q url.Values) string {
	var pairs []string
	for name, values := range q {
		for _, v := range values {
			pairs = append(pairs, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "&")
}

func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
