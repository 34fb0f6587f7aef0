package config

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/keyturn/keyturn/internal/hcltext"
	"github.com/keyturn/keyturn/internal/hostfile"
	"github.com/keyturn/keyturn/internal/server/httpapi"
)

// maxFile limits the size of a configuration file.
const maxFile = 1 << 20

// Read reads files, and the files *.hcl and *.json of folders, as one configuration. The error is
// [Problems].
func Read(paths []string, known Known) (*Server, error) { return readAll(paths, known, nil) }

// ReadDev is Read for the development mode. The mode's own settings (its listener, and storage in
// memory) apply in addition to the files, and the files cannot change them. One exception: a
// listener in a file replaces the mode's listener if it has the same address.
func ReadDev(paths []string, known Known, mode Server) (*Server, error) {
	return readAll(paths, known, &mode)
}

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

// A parser reads one configuration from several files.
type parser struct {
	known  Known
	report *report
	server Server
	drafts []*draft            // of the listeners
	set    map[string]Position // where a key of the top level was given
	mode   *Server             // the development mode; nil: only the files count
}

func newParser(known Known) *parser {
	return &parser{
		known: known, report: &report{order: map[string]int{}, places: places()}, set: map[string]Position{},
		server: Server{
			MaxRequestTime: httpapi.DefaultMaxTime, RotationSeries: defaultRotationSeries, given: given{},
			Log: Log{Format: "text", RotateEvery: defaultRotateEvery},
		},
	}
}

// files replaces folders by the files in them.
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

// top reads the top level of a file. A key in two files is a contradiction, even if both are
// equal.
func (p *parser) top(list *ast.ObjectList) {
	blocks := map[string]func(labelled){
		"listener": p.listener, "storage": p.storage, "backend": p.storage, "seal": p.seal,
	}
	rest := &ast.ObjectList{}
	for _, item := range list.Items {
		read, ok := blocks[label(item, 0)]
		if !ok {
			rest.Add(item)
			continue
		}
		for _, b := range p.report.blocks(item) {
			read(b)
		}
	}
	keys := topKeys(p.report, &p.server)
	for i, k := range keys {
		keys[i].set = p.once(k.set)
	}
	p.report.members(rest, topBlock, append(keys, labelledKeys...), p.server.given)
}

func (p *parser) listener(b labelled) {
	if len(p.drafts) >= maxListeners {
		p.report.problem(b.at, "there are more than %d listeners; remove some", maxListeners)
		return
	}
	if d := readListener(p.report, b); d != nil {
		p.drafts = append(p.drafts, d)
	}
}

func (p *parser) storage(b labelled) {
	if before := p.server.Storage.At; before != (Position{}) {
		p.report.problem(b.at, "storage: it is given already at %s; remove one", before)
		return
	}
	p.server.Storage = readStorage(p.report, b, p.known.Storage)
}

func (p *parser) seal(b labelled) {
	if before := p.server.Seal.At; before != (Position{}) {
		p.report.problem(b.at,
			"seal: it is given already at %s; remove one, because several seals and moving from one to another are "+
				"not implemented yet",
			before)
		return
	}
	p.server.Seal = readSeal(p.report, b, p.known.Seals)
}

// once returns a setter that reports a key that another file has set.
func (p *parser) once(set setter) setter {
	return func(item *ast.ObjectItem) {
		name := label(item, 0)
		if before, twice := p.set[name]; twice {
			p.report.problem(p.report.at(item), "%s: it is given already at %s; remove one", name, before)
			return
		}
		p.set[name] = p.report.at(item)
		set(item)
	}
}

// finish checks the configuration as a whole.
func (p *parser) finish() (*Server, error) {
	p.checkAll()
	if len(p.report.problems) > 0 {
		return nil, p.report.sorted(p.report.problems)
	}
	for _, w := range p.report.sorted(p.report.warnings) {
		p.server.Warnings = append(p.server.Warnings, w.At.String()+": "+w.Text)
	}
	return &p.server, nil
}

// checkAll checks rules that concern several lines.
func (p *parser) checkAll() {
	c := &p.server
	for _, d := range p.drafts {
		c.Listeners = append(c.Listeners, d.finish(c.MaxRequestTime, c.Log.Requests))
	}
	if p.mode != nil {
		p.addMode(p.mode)
	}
	complete := len(p.report.problems) == 0 // a file with problems may contain what seems to be missing
	if complete && len(c.Listeners) == 0 {
		p.report.problem(Position{}, "the configuration has no listener; it needs one such as %s",
			examples["listener"])
	}
	if complete && c.Storage.Name == "" {
		p.report.problem(Position{}, "the configuration has no storage; it needs one such as %s", examples["storage"])
	}
	for i, l := range c.Listeners {
		for _, before := range c.Listeners[:i] {
			if l.Kind == before.Kind && l.Address == before.Address {
				p.report.problem(l.At, "address: %s is given already at %s; remove one", l.Address, before.At)
			}
		}
	}
	if c.MaxLeaseTTL > 0 && c.DefaultLeaseTTL > c.MaxLeaseTTL {
		p.report.problem(p.set["default_lease_ttl"],
			"default_lease_ttl: %s must not be more than max_lease_ttl, which is %s", c.DefaultLeaseTTL, c.MaxLeaseTTL)
	}
}

// addMode adds the development mode to the files' settings.
func (p *parser) addMode(mode *Server) {
	c := &p.server
	for _, l := range mode.Listeners {
		l.given = given{}
		if c.Listener(&l) == nil {
			c.Listeners = slices.Insert(c.Listeners, 0, (&draft{listener: l}).finish(c.MaxRequestTime, c.Log.Requests))
		}
	}
	if name := c.Storage.Name; name != "" && name != mode.Storage.Name {
		p.report.warn(c.Storage.At,
			"storage %q: it is not used, because -dev keeps everything in memory; start without -dev to use it", name)
	}
	if name := c.Seal.Name; name != "" && name != "shamir" {
		p.report.warn(c.Seal.At,
			"seal %q: -dev unseals itself with a key that it prints; start without -dev to use it", name)
	}
	c.Storage, c.Seal = mode.Storage, mode.Seal
	c.OutboundAllow = append(c.OutboundAllow, mode.OutboundAllow...)
}
