package cli

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/vault/api"
)

// curlLine is a request as a line for a shell. The token is not in it: the line
// has the command that prints it.
func curlLine(r *api.OutputStringError, program string) (string, error) {
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
	} {
		if file.name != "" {
			words = append(words, file.option, quoted(file.name))
		}
	}
	for _, name := range sortedKeys(r.Request.Header) {
		for _, value := range r.Request.Header[name] {
			header := quoted(name + ": " + value)
			if strings.EqualFold(name, api.AuthHeaderName) {
				header = fmt.Sprintf(`"%s: $(%s print token)"`, name, program)
			}
			words = append(words, "-H", header)
		}
	}
	if len(body) > 0 {
		words = append(words, "-d", quoted(string(body)))
	}
	url := r.Request.URL.String()
	if strings.ContainsAny(url, "?&*'\"$` ();<>|\\") {
		url = quoted(url)
	}
	return strings.Join(append(words, url), " "), nil
}

// quoted is text as one word of a shell.
func quoted(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'"'"'`) + "'"
}
