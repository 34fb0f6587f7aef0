package cli

import (
	"context"
	"slices"
	"strings"
)

// A candidate is a word that may come next.
type candidate struct {
	word  string
	whole bool // the word ends here; otherwise more of it may follow
	about string
}

func wholeWord(word, about string) candidate {
	return candidate{word: word, whole: true, about: about}
}

func partOfWord(word, about string) candidate { return candidate{word: word, about: about} }

// wordsOf returns candidates without a description.
func wordsOf(words ...string) []candidate {
	var found []candidate
	for _, word := range words {
		found = append(found, wholeWord(word, ""))
	}
	return found
}

// matching returns the candidates that begin with typed, sorted and each once.
func matching(found []candidate, typed string) []candidate {
	found = slices.DeleteFunc(found, func(c candidate) bool {
		return !strings.HasPrefix(c.word, typed) || c.word == "" || printable(c.word) != c.word ||
			strings.ContainsAny(c.word, "\n\t")
	})
	slices.SortStableFunc(found, func(a, b candidate) int { return strings.Compare(a.word, b.word) })
	return slices.CompactFunc(found, func(a, b candidate) bool { return a.word == b.word && a.whole == b.whole })
}

// A request reads candidates from the server.
type request func(ctx context.Context, c *client) error
