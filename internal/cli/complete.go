package cli

import (
	"context"
	"io"
	"slices"
	"strings"
)

// complete prints the candidates for the last word of a command line. The shell passes the line in
// COMP_LINE and the position of the cursor in COMP_POINT, as bash does for complete -C. bash adds
// three arguments: the program, the word, and the word before it.
func (p program) complete(ctx context.Context, args []string) int {
	line := beforePoint(p.env.Getenv("COMP_LINE"), p.env.Getenv("COMP_POINT"))
	words, last := shellWords(line)
	if len(words) == 0 {
		return exitOK // the program's own name is being typed
	}
	ctx, cancel := context.WithTimeout(ctx, completionTime)
	defer cancel()
	d := dialectOf(p.env.Getenv(completeIn), args)
	for _, c := range p.candidates(ctx, words[1:], last.text) {
		if text, ok := d.render(c, last); ok {
			if _, err := io.WriteString(p.env.Stdout, text+"\n"); err != nil {
				return exitLocal
			}
		}
	}
	return exitOK
}

// candidates returns the words that begin with typed and may come next, sorted.
func (p program) candidates(ctx context.Context, words []string, typed string) []candidate {
	path, words, before := p.root.descend(words)
	if path == nil {
		return nil
	}
	c := path[len(path)-1]
	s := &session{name: p.name, env: p.env}
	comp := &completion{c: c, line: strings.TrimSpace(lineOf("", path)), s: s, query: querier(ctx, s)}
	var found []candidate
	switch {
	case before.open != "": // the value of a flag in front of the command
		found = comp.flagValues(before.open, typed)
	case len(c.sub) > 0:
		found = comp.groupCandidates(typed)
	case c.hook != nil:
		found = comp.hookCandidates(ctx, words, typed)
	default:
		found = comp.commandCandidates(append(before.flags, words...), typed)
	}
	return matching(found, typed)
}

// flagsBefore are the flags in front of a command's name. open is the flag whose value is being
// typed, if any.
type flagsBefore struct {
	flags []string
	open  string
}

// descend is find for an unfinished line. It follows the words as long as they name commands, and
// returns nil for a word that names none.
func (c *command) descend(words []string) ([]*command, []string, flagsBefore) {
	path := []*command{c}
	var before flagsBefore
	for len(c.sub) > 0 && len(words) > 0 {
		if strings.HasPrefix(words[0], "-") {
			width, err := c.flagWidth(words[0])
			if err != nil {
				return nil, nil, before
			}
			if width > len(words) {
				before.open = strings.TrimLeft(words[0], "-")
				return path, nil, before
			}
			before.flags, words = append(before.flags, words[:width]...), words[width:]
			continue
		}
		i := slices.IndexFunc(c.sub, func(sub *command) bool { return sub.name == words[0] })
		if i < 0 {
			return nil, nil, before
		}
		c, words = c.sub[i], words[1:]
		path = append(path, c)
	}
	return path, words, before
}

// groupCandidates returns the commands of a group, or the flags that every command has.
func (comp *completion) groupCandidates(typed string) []candidate {
	var found []candidate
	if !strings.HasPrefix(typed, "-") {
		for _, sub := range comp.c.sub {
			found = append(found, wholeWord(sub.name, sub.short))
		}
		return found
	}
	comp.flags = newFlags(&command{}, comp.s)
	return comp.flagCandidates(typed)
}

// commandCandidates returns the candidates for the next word of a command.
func (comp *completion) commandCandidates(words []string, typed string) []candidate {
	comp.flags = newFlags(comp.c, comp.s)
	for i := 0; i < len(words); i++ {
		switch name, value, has := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(words[i], "-"), "-"), "="); {
		case words[i] == "--":
			comp.args = append(comp.args, words[i+1:]...)
			return comp.argument(typed)
		case !strings.HasPrefix(words[i], "-") || words[i] == "-":
			comp.args = append(comp.args, words[i])
		case comp.flags.isSwitch(name):
		case has:
			comp.set(name, value)
		case i+1 < len(words):
			i++
			comp.set(name, words[i])
		default:
			return comp.flagValues(name, typed)
		}
	}
	if strings.HasPrefix(typed, "-") {
		return comp.flagCandidates(typed)
	}
	return comp.argument(typed)
}

// flagCandidates returns the flags, or the values of the flag before an equal sign.
func (comp *completion) flagCandidates(typed string) []candidate {
	bare := strings.TrimPrefix(strings.TrimPrefix(typed, "-"), "-")
	dashes := typed[:len(typed)-len(bare)]
	if name, value, has := strings.Cut(bare, "="); has {
		return prefixed(dashes+name+"=", comp.flagValues(name, value))
	}
	found := []candidate{wholeWord(dashes+"help", "show what the command takes")}
	for _, f := range comp.flags.shown {
		c := wholeWord(dashes+f.name, f.usage)
		if f.value != "" {
			c.word, c.whole = c.word+"=", false
		}
		found = append(found, c)
	}
	return found
}

// hookCandidates returns the flags of a command that parses its own flags. It finds them in the
// usage that the command prints: lines that begin with two spaces and a dash.
func (comp *completion) hookCandidates(ctx context.Context, words []string, typed string) []candidate {
	var usage strings.Builder
	comp.c.hook(ctx, []string{"-h"}, strings.NewReader(""), &usage, io.Discard)
	var found []candidate
	takes := map[string]string{}
	for line := range strings.Lines(usage.String()) {
		flag, ok := strings.CutPrefix(line, "  -")
		if !ok || strings.TrimSpace(flag) == "" {
			continue
		}
		fields := strings.Fields(flag)
		c := candidate{word: "-" + fields[0], whole: len(fields) == 1}
		if !c.whole {
			c.word += "="
			takes[fields[0]] = fields[1]
		}
		found = append(found, c)
	}
	name, value, has := strings.Cut(strings.TrimLeft(typed, "-"), "=")
	switch {
	case has && isFile(takes[name]):
		return prefixed("-"+name+"=", files(value))
	case len(words) > 0 && isFile(takes[strings.TrimLeft(words[len(words)-1], "-")]):
		return files(typed)
	case !strings.HasPrefix(typed, "-"):
		return nil
	}
	return found
}

// isSwitch reports whether the flag takes no value.
func (f *flags) isSwitch(name string) bool {
	known := f.set.Lookup(name)
	if known == nil {
		return false
	}
	b, ok := known.Value.(*boolValue)
	return ok && b.IsBoolFlag()
}
