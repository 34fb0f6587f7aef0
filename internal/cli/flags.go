package cli

import (
	"flag"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/go-secure-stdlib/parseutil"

	"github.com/keyturn/keyturn/internal/fault"
)

// flags is a flag.FlagSet that keeps the order and the groups of its flags for the usage, and that
// accepts flags between and after the arguments.
type flags struct {
	set   *flag.FlagSet
	group string
	shown []shownFlag
}

// A shownFlag is one flag in usage.
type shownFlag struct {
	group, name, value, usage string
}

// parse sets the flags, which may stand anywhere before "--", and returns the arguments.
func (f *flags) parse(args []string) ([]string, error) {
	var rest []string
	for {
		if err := f.set.Parse(args); err != nil {
			return nil, err
		}
		left := f.set.Args()
		if len(left) == 0 {
			return rest, nil
		}
		if taken := len(args) - len(left); taken > 0 && args[taken-1] == "--" {
			return append(rest, left...), nil
		}
		rest, args = append(rest, left[0]), left[1:]
	}
}

// suggest adds the nearest flag to the error for an unknown flag.
func (f *flags) suggest(err error) error {
	_, name, unknown := strings.Cut(err.Error(), "flag provided but not defined: -")
	if !unknown {
		return err
	}
	var names []string
	for _, g := range f.shown {
		names = append(names, g.name)
	}
	if instead, known := unsupportedFlags[name]; known {
		return hinted(usagef("the flag -%s is not supported", name), "%s", instead)
	}
	if best := fault.Nearest(name, names); best != "" {
		return hinted(err, "did you mean -%s?", best)
	}
	return err
}

// given reports whether the flag is on the command line.
func (f *flags) given(name string) (yes bool) {
	f.set.Visit(func(g *flag.Flag) { yes = yes || g.Name == name })
	return yes
}

// String declares a flag with a text value; value stands for it in usage.
func (f *flags) String(p *string, name, value, usage string) {
	f.add((*textValue)(p), name, value, usage)
}

// TTL declares a flag with a duration: a number of seconds, or a number with a unit. The duration
// is checked here, and sent as it was typed.
func (f *flags) TTL(p *string, name, usage string) {
	f.add((*ttlValue)(p), name, "duration", usage)
}

// Int declares a flag with a whole number.
func (f *flags) Int(p *int, name, usage string) {
	f.add((*intValue)(p), name, "n", usage)
}

// Bool declares a flag that needs no value.
func (f *flags) Bool(p *bool, name, usage string) {
	f.add((*boolValue)(p), name, "", usage)
}

// List declares a flag that may be given several times.
func (f *flags) List(p *[]string, name, value, usage string) {
	f.add((*listValue)(p), name, value, usage+"; may be given several times")
}

// Pairs declares a flag of key=value that may be given several times.
func (f *flags) Pairs(p *map[string]string, name, usage string) {
	f.add(pairsValue{p}, name, "key=value", usage+"; may be given several times")
}

// Alias makes other a second name of the flag name.
func (f *flags) Alias(other, name string) {
	g := f.set.Lookup(name)
	f.set.Var(g.Value, other, g.Usage)
}

func (f *flags) add(v flag.Value, name, value, usage string) {
	f.set.Var(v, name, usage)
	f.shown = append(f.shown, shownFlag{group: f.group, name: name, value: value, usage: usage})
}

type textValue string

func (v *textValue) Set(s string) error { *v = textValue(s); return nil }
func (v *textValue) String() string     { return string(*v) }

type ttlValue string

func (v *ttlValue) Set(s string) error {
	if _, err := parseutil.ParseDurationSecond(s); err != nil {
		return fmt.Errorf("it is not a duration; write 3600, 90s, 30m or 24h")
	}
	*v = ttlValue(s)
	return nil
}
func (v *ttlValue) String() string { return string(*v) }

type intValue int

func (v *intValue) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("it is not a whole number")
	}
	*v = intValue(n)
	return nil
}
func (v *intValue) String() string { return strconv.Itoa(int(*v)) }

type boolValue bool

func (v *boolValue) Set(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("it is neither true nor false")
	}
	*v = boolValue(b)
	return nil
}
func (v *boolValue) String() string   { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) IsBoolFlag() bool { return true }

type listValue []string

func (v *listValue) Set(s string) error { *v = append(*v, s); return nil }
func (v *listValue) String() string     { return strings.Join(*v, ",") }

type pairsValue struct{ m *map[string]string }

func (v pairsValue) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return fmt.Errorf("it must be key=value")
	}
	if *v.m == nil {
		*v.m = map[string]string{}
	}
	(*v.m)[key] = value
	return nil
}

func (v pairsValue) String() string { return "" }
