package cli

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/hashicorp/vault/api"
)

// A printer writes results to standard output, one field or all in the chosen format, and their
// warnings to standard error.
type printer struct {
	stdout, stderr io.Writer
	format         string // table, json, yaml or raw; set by prepare
	field          string // the value of -field
	noColor        bool
}

// say writes a line for people. In another format than a table it writes nothing.
func (out *printer) say(format string, args ...any) error {
	if out.format != "table" {
		return nil
	}
	return out.write(printable(fmt.Sprintf(format, args...)) + "\n")
}

// write puts text on standard output.
func (out *printer) write(text string) error {
	_, err := io.WriteString(out.stdout, text)
	return local(err, "writing the output")
}

// encode writes v as JSON or YAML and returns true. For a table it writes nothing and returns
// false.
func (out *printer) encode(v any) (bool, error) {
	switch out.format {
	case "table":
		return false, nil
	case "raw":
		return true, usagef("this command has no raw output; use table, json or yaml")
	}
	b, err := encodeJSON(v)
	if err == nil && out.format == "yaml" {
		b, err = toYAML(b)
	}
	if err != nil {
		return true, local(err, "encoding the output")
	}
	return true, out.write(string(b))
}

// single writes one field. In a table it is plain text, with a line end only at a terminal.
func (out *printer) single(v any) error {
	if done, err := out.encode(v); done {
		return err
	}
	if f, ok := out.stdout.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return out.write(printable(cell(v)) + "\n")
	}
	return out.write(cell(v))
}

// warn writes the warnings that came with an answer to standard error.
func (out *printer) warn(warnings []string) {
	if len(warnings) == 0 || out.format != "table" {
		return
	}
	fmt.Fprint(out.stderr, "WARNING! The server answered with warnings:\n\n")
	for _, w := range warnings {
		io.WriteString(out.stderr, indent(wrap(printable(w), 74), "  * "))
	}
	fmt.Fprintln(out.stderr)
}

// show prints an answer: one field, or all in the chosen format.
func (out *printer) show(sec *api.Secret) error {
	if out.field != "" {
		return out.showField(sec)
	}
	out.warn(sec.Warnings)
	if done, err := out.encode(sec); done {
		return err
	}
	return out.write(pairTable(pairsOf(sec)))
}

// showField prints the field that -field names.
func (out *printer) showField(sec *api.Secret) error {
	for _, p := range pairsOf(sec) {
		if strings.TrimSuffix(p.key, ":") != out.field {
			continue
		}
		if p.raw != nil {
			return out.single(p.raw)
		}
		return out.single(p.show)
	}
	return refuse(exitLocal, "Field %q not present in secret", out.field)
}

// emptyAnswer reports whether a read found nothing. It prints the warnings, which may say why.
func (out *printer) emptyAnswer(sec *api.Secret) bool {
	if sec == nil {
		return true
	}
	if sec.Data != nil || sec.Auth != nil || sec.WrapInfo != nil || len(sec.Warnings) == 0 {
		return false
	}
	out.warn(sec.Warnings)
	return true
}

// done prints the answer to a change or, if the answer is empty, the text of success.
func (out *printer) done(sec *api.Secret, format string, args ...any) error {
	if sec == nil {
		return out.say(format, args...)
	}
	bare := len(sec.Data) == 0 && sec.Auth == nil && sec.WrapInfo == nil && sec.LeaseID == ""
	if bare && out.field == "" && out.format == "table" {
		out.warn(sec.Warnings)
		return out.say(format, args...)
	}
	return out.show(sec)
}
