package cli

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/hashicorp/vault/api"
)

// curlLine returns a request as a curl command. In place of the session's token, the line has the
// command that prints the token.
func (s *session) curlLine(r *api.OutputStringError) (string, error) {
	body, err := r.Request.BodyBytes()
	if err != nil {
		return "", err
	}
	words := []string{"curl"}
	if r.TLSSkipVerify {
		words = append(words, "--insecure")
	}
	if r.Request.Method != http.MethodGet {
		words = append(words, "-X", r.Request.Method)
	}
	for _, file := range []struct{ option, name string }{
		{"--cacert", r.ClientCACert}, {"--capath", r.ClientCAPath}, {"--cert", r.ClientCert}, {"--key", r.ClientKey},
		{"--unix-socket", s.client.socket},
	} {
		if file.name != "" {
			words = append(words, file.option, quoted(file.name))
		}
	}
	target := *r.Request.URL
	if name := s.client.serverName; name != "" && target.Scheme == "https" {
		words = append(words, "--connect-to", quoted("::"+hostPort(&target)))
		target.Host = net.JoinHostPort(name, portOf(&target))
	}
	for _, name := range sortedKeys(r.Request.Header) {
		for _, value := range r.Request.Header[name] {
			header := quoted(name + ": " + value)
			if strings.EqualFold(name, api.AuthHeaderName) && value == s.client.token.RevealString() {
				header = fmt.Sprintf(`"%s: $(%s print token)"`, name, s.name)
			}
			words = append(words, "-H", header)
		}
	}
	if len(body) > 0 {
		words = append(words, "-d", quoted(string(body)))
	}
	address := target.String()
	if !plainWord.MatchString(address) {
		address = quoted(address)
	}
	return strings.Join(append(words, address), " "), nil
}

// plainWord matches a word in which no shell finds a special character.
var plainWord = regexp.MustCompile(`^[A-Za-z0-9:/._%@+,=-]+$`)

func hostPort(u *url.URL) string { return net.JoinHostPort(u.Hostname(), portOf(u)) }

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// quoted quotes text as one word of a shell.
func quoted(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'"'"'`) + "'"
}
