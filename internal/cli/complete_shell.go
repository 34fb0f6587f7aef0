package cli

import (
	"strconv"
	"strings"
)

// completeIn is the environment variable in which the installed completion names the shell. A
// completion that Vault's command line installed does not set it.
const completeIn = "KEYTURN_COMPLETE"

// beforePoint returns the line up to the cursor, whose position shells count in characters.
func beforePoint(line, point string) string {
	n, err := strconv.Atoi(point)
	letters := []rune(line)
	if err != nil || n < 0 || n >= len(letters) {
		return line
	}
	return string(letters[:n])
}

// A lastWord is the word at the cursor: its meaning, how it was typed, and its open quote, if any.
type lastWord struct {
	text, typed string
	quote       rune
}

// shellWords splits a line as a shell does, but expands nothing. It returns the finished words and
// the last word, which may be empty.
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

// A dialect is the format in which a shell expects candidates.
type dialect struct {
	shell string // bash, zsh or fish; empty for a completion that Vault's command line installed
	bash  bool   // bash calls
	word  string // the part of the word that bash replaces, because it splits words at = and :
}

func dialectOf(shell string, args []string) dialect {
	d := dialect{shell: shell}
	if len(args) == 3 && shell != "zsh" && shell != "fish" {
		d.bash, d.word = true, args[1]
	}
	return d
}

// render returns a candidate in the shell's format. It quotes characters that are special to the
// shell, because others may have chosen the name. ok is false if the name cannot be quoted.
func (d dialect) render(c candidate, last lastWord) (text string, ok bool) {
	switch {
	case d.shell == "zsh": // zsh quotes
		return c.word + "\t" + space(c.whole), true
	case d.shell == "fish": // fish quotes, and adds no space after / and =
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
		if strings.Contains(rest, "!") { // inside double quotes, nothing prevents history expansion
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

// quotedForShell puts a backslash before each character that is special to a shell.
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
