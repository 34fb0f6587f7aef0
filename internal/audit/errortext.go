package audit

import (
	"strconv"
	"strings"
)

// ErrorText formats errors as in Vault's audit logs, because rules of log watchers match this
// format.
func ErrorText(messages ...string) string {
	if len(messages) == 0 {
		return ""
	}
	var b strings.Builder
	noun := " errors"
	if len(messages) == 1 {
		noun = " error"
	}
	b.WriteString(strconv.Itoa(len(messages)) + noun + " occurred:")
	for _, m := range messages {
		b.WriteString("\n\t* " + m)
	}
	b.WriteString("\n\n")
	return b.String()
}
