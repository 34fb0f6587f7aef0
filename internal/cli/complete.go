package cli

import (
	"context"
	"io"
	"slices"
	"strings"
)

// complete prints the possible continuations of a command line for a shell. The
// shell passes the line in COMP_LINE and the cursor's position in COMP_POINT, as
// bash does for complete -C. args are the ones that bash adds: the program, the
// word and the word before it.
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

// candidates are what the word that begins with typed may be, in order.
func (p program) candidates(ctx context.Context, words []string, typed string) []candidate {
	path, words, before := p.root.descend(words)
	if path == nil {
		return nil
	}
	c := path[len(path)-1]
	s := &session{name: p.name, env: p.env}
	q := &question{c: c, line: strings.TrimSpace(lineOf("", path)), s: s, ask: asker(ctx, s)}
	var found []candidate
	switch {
	case before.open != "": // the value of a flag in front of the command
		found = q.flagValues(before.open, typed)
	case len(c.sub) > 0:
		found = q.ofGroup(typed)
	case c.hook != nil:
		found = q.ofHook(ctx, words, typed)
	default:
		found = q.ofCommand(append(before.flags, words...), typed)
	}
	return fitting(found, typed)
}

// flagsBefore are flags in front of a command's name; open is the name of one
// whose value is being typed.
type flagsBefore struct {
	flags []string
	open  string
}

// descend is find for a line that is not finished: it goes as far as the words
// name commands. It returns nil where they name none.
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

// ofGroup are the commands of a group, or the flags that every command has.
func (q *question) ofGroup(typed string) []candidate {
	var found []candidate
	if !strings.HasPrefix(typed, "-") {
		for _, sub := range q.c.sub {
			found = append(found, wholeWord(sub.name, sub.short))
		}
		return found
	}
	q.flags = newFlags(&command{}, q.s)
	return q.ofFlag(typed)
}

// ofCommand are what a command's next word may be.
func (q *question) ofCommand(words []string, typed string) []candidate {
	q.flags = newFlags(q.c, q.s)
	for i := 0; i < len(words); i++ {
		switch name, value, has := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(words[i], "-"), "-"), "="); {
		case words[i] == "--":
			q.args = append(q.args, words[i+1:]...)
			return q.argument(typed)
		case !strings.HasPrefix(words[i], "-") || words[i] == "-":
			q.args = append(q.args, words[i])
		case q.flags.alone(name):
		case has:
			q.set(name, value)
		case i+1 < len(words):
			i++
			q.set(name, words[i])
		default:
			return q.flagValues(name, typed)
		}
	}
	if strings.HasPrefix(typed, "-") {
		return q.ofFlag(typed)
	}
	return q.argument(typed)
}

// ofFlag are the flags, or the values of one that ends in an equal sign.
func (q *question) ofFlag(typed string) []candidate {
	bare := strings.TrimPrefix(strings.TrimPrefix(typed, "-"), "-")
	dashes := typed[:len(typed)-len(bare)]
	if name, value, has := strings.Cut(bare, "="); has {
		return prefixed(dashes+name+"=", q.flagValues(name, value))
	}
	found := []candidate{wholeWord(dashes+"help", "show what the command takes")}
	for _, f := range q.flags.shown {
		c := candidate{dashes + f.name, true, f.usage}
		if f.value != "" {
			c.word, c.whole = c.word+"=", false
		}
		found = append(found, c)
	}
	return found
}

// ofHook are the flags of a command that parses its own: those that its usage
// lists, each in a line that begins with two spaces.
func (q *question) ofHook(ctx context.Context, words []string, typed string) []candidate {
	var usage strings.Builder
	q.c.hook(ctx, []string{"-h"}, strings.NewReader(""), &usage, io.Discard)
	var found []candidate
	takes := map[string]string{}
	for line := range strings.Lines(usage.String()) {
		flag, ok := strings.CutPrefix(line, "  -")
		if !ok || strings.TrimSpace(flag) == "" {
			continue
		}
		fields := strings.Fields(flag)
		c := candidate{"-" + fields[0], len(fields) == 1, ""}
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

// alone reports whether the flag of a name takes no value.
func (f *flags) alone(name string) bool {
	known := f.set.Lookup(name)
	if known == nil {
		return false
	}
	b, ok := known.Value.(*boolValue)
	return ok && b.IsBoolFlag()
}
