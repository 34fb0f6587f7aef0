package rotate

import (
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/keyturn/keyturn/internal/secret"
)

// An Exchange is one request to a provider and its result, for people. An Exchange holds no
// secret, and of the reply only what decision 0035 allows.
type Exchange struct {
	At     time.Time `json:"time"`
	Took   Seconds   `json:"took_seconds"`
	Step   string    `json:"step"` // of a recipe: "create"; AWS's action; "login", "set-password" of a database
	Method string    `json:"method,omitempty"`
	Host   string    `json:"host,omitempty"`
	Path   string    `json:"path,omitempty"`
	Status int       `json:"status,omitempty"` // 0: there was no reply
	Reply  string    `json:"reply,omitempty"`  // at most [MaxReply] bytes
	Error  string    `json:"error,omitempty"`  // why there was no reply, or why a database did not do it
	// Connection is the database connection; it is set instead of method, host, path and status.
	// Code is the database's error code, such as "SQLSTATE 42501", if the database refused the
	// call.
	Connection string `json:"connection,omitempty"`
	Code       string `json:"code,omitempty"`
	// Query, Headers and Body are shown by tests of recipes, and are not stored.
	Query   []string `json:"-"` // names alone
	Headers []string `json:"-"` // "Authorization: Bearer [secret]"
	Body    string   `json:"-"`
}

// Seconds is a duration in JSON: in seconds, to the millisecond.
type Seconds float64

// SecondsOf converts a duration to Seconds.
func SecondsOf(d time.Duration) Seconds {
	return Seconds(float64(d.Round(time.Millisecond).Milliseconds()) / 1000)
}

// String returns the duration for people.
func (s Seconds) String() string {
	if s < 0.001 {
		return "less than 1ms"
	}
	return time.Duration(float64(s) * float64(time.Second)).Round(time.Millisecond).String()
}

// Limits on what is stored of exchanges.
const (
	MaxReply     = 2 << 10 // bytes of one reply
	maxShown     = 1 << 20 // of a reply of which the beginning is kept
	maxExchanges = 8       // of one commit
	maxKept      = 100     // of one rotation
)

// redacted replaces text that is not shown.
const redacted = "[secret]"

var (
	// looksSecret matches a run of letters and digits that is long enough for a key, a token or a
	// hash.
	looksSecret = regexp.MustCompile(`[A-Za-z0-9+/_=.~%\\-]{16,}`)
	// assigned matches a secret in a form or a query: "token=abc".
	assigned = regexp.MustCompile(`(?i)((?:secret|token|passw|pwd|key|credential|auth)[a-z_-]*=)[^\s&;,"'<>]+`)
	// namesSecret matches names of fields that hold secrets.
	namesSecret = regexp.MustCompile(
		`(?i)secret|token|passw|pwd|key|credential|auth|private|cert|signature|session|cookie`)
	// saysWhy matches names of fields that say why a call has failed.
	saysWhy = regexp.MustCompile(
		`(?i)^(error|errors|error_?(code|message|description|type)|message|msg|detail|details|title|reason|type|code|status|description|cause)$`)
)

// mask removes known secrets, and whatever looks like a secret, from a third party's text.
func mask(red *secret.Redactor, text string) string {
	text = assigned.ReplaceAllString(red.Scrub(strings.ToValidUTF8(text, "?")), "${1}"+redacted)
	return looksSecret.ReplaceAllStringFunc(text, func(run string) string {
		if random(run) {
			return redacted
		}
		return run
	})
}

// random reports whether a run of letters and digits is not a word: it has a digit, or far more
// capitals than a name such as InvalidClientTokenId.
func random(run string) bool {
	var small, capital int
	for _, r := range run {
		switch {
		case r >= '0' && r <= '9':
			return true
		case r >= 'a' && r <= 'z':
			small++
		case r >= 'A' && r <= 'Z':
			capital++
		}
	}
	return min(small, capital)*10 >= len(run)*3
}

// ShowReply returns what may be stored of a reply. A successful reply may hold a new secret, in a
// field that only the recipe knows. Therefore only the shape of its JSON is kept, names and
// types, and nothing of any other format. A failed reply says why the call failed. Its text is
// kept without known secrets and whatever looks like one. If creates says that the call was a
// creating one, only the fields that say why are kept.
func ShowReply(red *secret.Redactor, status int, body []byte, creates bool) string {
	failed := status >= 400
	switch {
	case len(body) == 0:
		return ""
	case len(body) > maxShown:
		return "[not shown: it is too large]"
	}
	if text, ok := walkJSON(body, &walker{red: red, keepValues: failed, creates: creates}); ok {
		return text
	}
	if !failed || creates {
		return "[not shown: it is not JSON]"
	}
	return clip(mask(red, string(body)))
}

// clip cuts a text to MaxReply bytes.
func clip(text string) string {
	if len(text) <= MaxReply {
		return text
	}
	return strings.ToValidUTF8(text[:MaxReply-len("…")], "") + "…"
}

// A walker copies JSON with its values replaced.
type walker struct {
	red        *secret.Redactor
	keepValues bool // values that are no secrets stay,
	// creates: only fields that say why keep their values
	creates bool
	out     strings.Builder
}

// walkJSON writes the beginning of a JSON text, with its values replaced. ok is false if the text
// is not JSON.
func walkJSON(body []byte, w *walker) (text string, ok bool) {
	if !json.Valid(body) {
		return "", false
	}
	dec := json.NewDecoder(strings.NewReader(string(body)))
	dec.UseNumber()
	w.value(dec, "", false)
	return clip(w.out.String()), true
}

// full reports whether MaxReply is reached.
func (w *walker) full() bool { return w.out.Len() > MaxReply }

// value writes one value. name is the name of its field. hidden says that an outer field is named
// like a secret. value stops early once the walker is full.
func (w *walker) value(dec *json.Decoder, name string, hidden bool) {
	token, err := dec.Token()
	if err != nil || w.full() {
		return
	}
	hidden = hidden || namesSecret.MatchString(name)
	switch v := token.(type) {
	case json.Delim:
		w.nested(dec, v, name, hidden)
	case string:
		w.text(v, name, hidden)
	case json.Number:
		w.scalar(v.String(), "number", name, hidden)
	case bool:
		w.scalar(map[bool]string{true: "true", false: "false"}[v], "boolean", name, hidden)
	case nil:
		w.out.WriteString("null")
	}
}

func (w *walker) nested(dec *json.Decoder, open json.Delim, name string, hidden bool) {
	w.out.WriteString(open.String())
	for first := true; dec.More() && !w.full(); first = false {
		if !first {
			w.out.WriteString(", ")
		}
		if open == '{' {
			token, err := dec.Token()
			if err != nil {
				return
			}
			field, _ := token.(string)
			w.quote(mask(w.red, field))
			w.out.WriteString(": ")
			w.value(dec, field, hidden)
			continue
		}
		w.value(dec, name, hidden)
	}
	if w.full() {
		return
	}
	if _, err := dec.Token(); err != nil && err != io.EOF {
		return
	}
	w.out.WriteString(map[json.Delim]string{'{': "}", '[': "]"}[open])
}

// text writes a string, or its type. A string that is itself JSON is walked too, because gateways
// wrap the replies of their backends like that.
func (w *walker) text(v, name string, hidden bool) {
	switch {
	case !w.keepValues, w.creates && !saysWhy.MatchString(name):
		w.out.WriteString(`"[text]"`)
	case hidden && !strings.ContainsAny(v, " "):
		w.quote(redacted)
	default:
		if inner := strings.TrimSpace(v); strings.HasPrefix(inner, "{") || strings.HasPrefix(inner, "[") {
			if text, ok := walkJSON([]byte(inner),
				&walker{red: w.red, keepValues: w.keepValues, creates: w.creates}); ok {
				w.quote(text)
				return
			}
		}
		w.quote(mask(w.red, v))
	}
}

// scalar writes a number or a boolean, or its type.
func (w *walker) scalar(v, what, name string, hidden bool) {
	if !w.keepValues || hidden || w.creates && !saysWhy.MatchString(name) {
		v = `"[` + what + `]"`
	}
	w.out.WriteString(v)
}

func (w *walker) quote(v string) {
	b, _ := json.Marshal(v) // of a string: never fails
	w.out.Write(b)
}
