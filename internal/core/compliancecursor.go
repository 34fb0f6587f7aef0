package core

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/keyturn/keyturn/internal/barrier"
	"github.com/keyturn/keyturn/internal/fault"
)

// A spot is the place of a secret in the list of compliance: late secrets come first, by deadline,
// then those that cannot be judged.
type spot struct {
	Unjudged bool   `json:"u,omitempty"`
	Second   int64  `json:"s,omitempty"` // Unix time of the deadline
	Path     string `json:"p,omitempty"`
}

func (a spot) compare(b spot) int {
	switch {
	case a.Unjudged && !b.Unjudged:
		return 1
	case b.Unjudged && !a.Unjudged:
		return -1
	}
	return cmp.Or(cmp.Compare(a.Second, b.Second), strings.Compare(a.Path, b.Path))
}

// cursorPurpose separates cursors from other texts that the barrier encrypts.
const cursorPurpose = "compliance cursor"

// maxCursor is the longest cursor in bytes.
const maxCursor = 16 << 10

// cursor returns the text that stands for a spot. It is encrypted, because a page may end at a
// secret that the caller may not see.
func (a spot) cursor(b *barrier.Barrier) (string, error) {
	plain, err := json.Marshal(a)
	if err != nil {
		return "", fault.Wrap("core.compliance", fault.Internal, err)
	}
	sealed, err := b.SealBytes(cursorPurpose, plain)
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// openCursor returns the spot of a cursor; that of "" is before all others.
func openCursor(b *barrier.Barrier, text string) (a spot, err error) {
	if text == "" {
		return a, nil
	}
	if len(text) <= maxCursor {
		sealed, err := base64.RawURLEncoding.DecodeString(text)
		if err == nil {
			sealed, err = b.OpenBytes(cursorPurpose, sealed)
		}
		if err == nil {
			return a, fault.Wrap("core.compliance", fault.Internal, json.Unmarshal(sealed, &a))
		}
		if fault.Is(err, fault.Sealed) {
			return a, err
		}
	}
	return a, fault.New("core.compliance", fault.Invalid,
		"parameter \"after\" is no cursor; send the \"next\" of the page before")
}
