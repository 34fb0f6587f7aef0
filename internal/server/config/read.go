package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/hcltext"
	"github.com/keyturn/keyturn/internal/hostfile"
)

// maxFile is more than any honest configuration; the parser is not made for
// hostile ones.
const maxFile = 1 << 20

// Read reads files, and the files *.hcl and *.json of folders, as one
// configuration. The error is [Problems].
func Read(paths []string, known Known) (*Server, error) { return readAll(paths, known, nil) }

func readAll(paths []string, known Known, mode *Server) (*Server, error) {
	p := newParser(known)
	p.mode = mode
	for _, path := range p.files(paths) {
		text, err := hostfile.ReadNamed(path, maxFile)
		if err != nil {
			p.report.problem(Position{File: path}, "reading it: %v", cause(err))
			continue
		}
		p.file(path, text)
	}
	return p.finish()
}

// files replaces folders by what they hold.
func (p *parser) files(paths []string) []string {
	var all []string
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			p.report.problem(Position{File: path}, "reading it: %v", cause(err))
			continue
		case !info.IsDir():
			all = append(all, path)
			continue
		}
		var found []string
		for _, end := range []string{"*.hcl", "*.json"} {
			some, err := filepath.Glob(filepath.Join(path, end))
			if err != nil {
				p.report.problem(Position{File: path}, "looking for files: %v", err)
			}
			found = append(found, some...)
		}
		if len(found) == 0 {
			p.report.problem(Position{File: path},
				"the folder has no file *.hcl or *.json; name a file, or a folder that has one")
		}
		slices.Sort(found)
		all = append(all, found...)
	}
	return all
}

// cause is an error of the file system without the path, which the message already has.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// file reads one file's text.
func (p *parser) file(path string, text []byte) {
	p.report.begin(path)
	list, wrong := hcltext.Parse(string(text), hcltext.Options{MaxBytes: maxFile, Repeated: true})
	if wrong != nil {
		p.report.problem(Position{path, wrong.Line}, "%s", wrong.Text)
		return
	}
	p.top(list)
}

// finish checks what was gathered as a whole.
func (p *parser) finish() (*Server, error) {
	p.whole()
	if len(p.report.problems) > 0 {
		return nil, p.report.sorted(p.report.problems)
	}
	for _, w := range p.report.sorted(p.report.warnings) {
		p.server.Warnings = append(p.server.Warnings, w.At.String()+": "+w.Text)
	}
	return &p.server, nil
}

// Reason is an error for the person at the terminal: the message, then the cause.
func Reason(err error) string {
	text := fault.Message(err)
	if text == "" {
		return err.Error()
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if _, ours := e.(*fault.Error); !ours && !strings.Contains(e.Error(), text) {
			return text + ": " + e.Error()
		}
	}
	return text
}
