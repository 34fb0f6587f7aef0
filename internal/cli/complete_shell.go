package cli

import (
	"strconv"
	"strings"
)

// completeIn names the shell that asks, in the environment that the installed
// completion sets. Lines that Vault's command line installed do not.
const completeIn = "KEYTURN_COMPLETE"

// beforePoint is the line up to the cursor, which shells count in letters.
func beforePoint(line, point string) string {
	n, err := strconv.Atoi(point)
	letters := []rune(line)
	if err != nil || n < 0 || n >= len(letters) {
		return line
	}
	return string(letters[:n])
}

// A lastWord is the word at the cursor: what it means, how it was typed, and the
// quote that is open in it.
type lastWord struct {
	text, typed string
	quote       rune
}

// shellWords divides a line as a shell does, without expanding anything, into the
// words that are finished and the one at its end, which may be empty.
func shellWords(line string) ([]string, lastWord) {
	var words []string
	var word strings.Builder
	var last lastWord
	begun, escaped := false, false
	start := len(line)
	for i, r := range line {
		space := r == ' ' || r == '\t' || r == '\n'
		if !begun && !space {
			begun, start = true, i
		}
		switch {
		case escaped:
			escaped = false
			word.WriteRune(r)
		case r == '\\' && last.quote != '\'':
			escaped = true
		case r == last.quote:
			last.quote = 0
		case last.quote == 0 && (r == '"' || r == '\''):
			last.quote = r
		case last.quote == 0 && space:
			if begun {
				words = append(words, word.String())
				word.Reset()
				begun, start = false, len(line)
			}
		default:
			word.WriteRune(r)
		}
	}
	last.text, last.typed = word.String(), line[min(start, len(line)):]
	return words, last
}

// A dialect is how a shell wants candidates.
type dialect struct {
	shell string // bash, zsh or fish; empty: a line that Vault's command line installed
	bash  bool   // bash asks, and replaces
	word  string // this part of the word alone: it divides words at = and :
}

func dialectOf(shell string, args []string) dialect {
	d := dialect{shell: shell}
	if len(args) == 3 && shell != "zsh" && shell != "fish" {
		d.bash, d.word = true, args[1]
	}
	return d
}

// render is a candidate as the shell takes it. What a shell would obey is quoted:
// names may have been written by others. ok is false where that cannot be done.
func (d dialect) render(c candidate, last lastWord) (text string, ok bool) {
	switch {
	case d.shell == "zsh": // quotes by itself
		return c.word + "\t" + space(c.whole), true
	case d.shell == "fish": // quotes by itself, and leaves the space out behind / and =
		about, _, _ := strings.Cut(c.about, "\n")
		return strings.TrimSuffix(c.word+"\t"+about, "\t"), true
	case !d.bash:
		return c.word, quotedForShell(c.word) == c.word
	}
	rest := strings.TrimPrefix(c.word, last.text)
	switch last.quote {
	case 0:
		rest = quotedForShell(rest) + space(c.whole && d.shell == "bash")
	case '"':
		rest = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(rest)
		if strings.Contains(rest, "!") { // nothing keeps it from history expansion here
			return "", false
		}
	default:
		if strings.Contains(rest, "'") {
			return "", false
		}
	}
	full := last.typed + rest
	return strings.TrimPrefix(full, strings.TrimSuffix(last.typed, d.word)), true
}

func space(yes bool) string {
	if yes {
		return " "
	}
	return ""
}

// quotedForShell puts a backslash before all that a shell does not take as it is.
func quotedForShell(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-"
	var b strings.Builder
	for _, r := range text {
		if r < 0x80 && !strings.ContainsRune(plain, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
