package cli

import (
	"context"
	"slices"
	"strings"
)

// A candidate is a word that may come next.
type candidate struct {
	word  string
	whole bool // a space follows; else more of the same word may
	about string
}

func wholeWord(word, about string) candidate { return candidate{word, true, about} }

// wordsOf are candidates without a description.
func wordsOf(words ...string) []candidate {
	var found []candidate
	for _, word := range words {
		found = append(found, wholeWord(word, ""))
	}
	return found
}

// fitting are those of the candidates that begin with typed, each once.
func fitting(found []candidate, typed string) []candidate {
	found = slices.DeleteFunc(found, func(c candidate) bool {
		return !strings.HasPrefix(c.word, typed) || c.word == "" || harmless(c.word) != c.word || strings.ContainsAny(c.word, "\n\t")
	})
	slices.SortStableFunc(found, func(a, b candidate) int { return strings.Compare(a.word, b.word) })
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.word == b.word && a.whole == b.whole })
}

// A request asks the server for something that is offered then.
type request func(ctx context.Context, c *client) error
