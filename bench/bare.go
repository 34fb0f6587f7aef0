package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"

	"github.com/keyturn/keyturn/internal/cli"
	"github.com/keyturn/keyturn/internal/plugins"
	"github.com/keyturn/keyturn/internal/server"
	"github.com/keyturn/keyturn/internal/storage"
	"github.com/keyturn/keyturn/internal/storage/pebble"
)

// The modes in which this program can be started by itself.
const (
	childBare    = "as-bare-server"
	childKeyturn = "as-keyturn"
)

// A shape is the effect of one request, which the bare server reproduces.
type shape struct {
	Body    []byte  `json:"body"`    // the body of the answer; 204 if empty
	Folder  string  `json:"folder"`  // the part of the path before the name
	Commits []batch `json:"commits"` // one batch for each commit
	Audit   []byte  `json:"audit"`   // complete lines
	Dir     string  `json:"dir"`     // for the store and the audit file; "": neither is written
}

// A batch is the operations of one commit, with keys and values of the same lengths.
type batch []written

// written is one operation of keyturn: its key is Head, the name at the end of the request's path
// if Named, Tail, and as many random letters as Random, in place of a generated ID. Ascending keys
// would cost a store less.
type written struct {
	Head   string `json:"head"`
	Named  bool   `json:"named"`
	Tail   string `json:"tail"`
	Random int    `json:"random"`
	Size   int    `json:"size"`
	Delete bool   `json:"delete"`
	Stamp  bool   `json:"stamp"` // the store completes the key
}

// key returns the key for a request with this name.
func (o *written) key(name string) string {
	b := append(make([]byte, 0, len(o.Head)+len(name)+len(o.Tail)+o.Random), o.Head...)
	if o.Named {
		b = append(b, name...)
	}
	b = append(b, o.Tail...)
	for range o.Random {
		b = append(b, "0123456789abcdefghijklmnopqrstuv"[rand.IntN(32)])
	}
	return string(b)
}

// child runs the mode as which this process was started, if any.
func child(ctx context.Context, as string) bool {
	var err error
	switch as {
	case childBare:
		err = serveBare(ctx)
	case childKeyturn:
		err = serveProfiled(ctx, os.Args[2], os.Args[3:])
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	return true
}

// serveProfiled runs keyturn and writes its profiles next to prefix.
func serveProfiled(ctx context.Context, prefix string, args []string) error {
	cpu, err := os.Create(prefix + ".cpu")
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	code := cli.Main(ctx, append([]string{"keyturn"}, args...), cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Server: server.Command(server.Plugins{
			Storage: plugins.StorageDrivers, Seals: plugins.Seals, Audits: plugins.AuditDevices,
			Engines: plugins.Engines, Auths: plugins.AuthMethods, Databases: plugins.DatabasePlugins(),
		}, cli.Version),
	})
	pprof.StopCPUProfile()
	mem, err := os.Create(prefix + ".mem")
	if err != nil {
		return err
	}
	err = errors.Join(pprof.Lookup("allocs").WriteTo(mem, 0), mem.Close(), cpu.Close())
	if code != 0 {
		err = errors.Join(err, fmt.Errorf("keyturn ended with %d", code))
	}
	return err
}

// bare is a process that serves a shape.
type bare struct {
	address string
	cmd     *exec.Cmd
	life    io.Closer // its standard input, whose end stops it
}

func startBare(s shape) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, childBare)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	err = json.NewEncoder(in).Encode(s)
	line, rerr := bufio.NewReader(out).ReadString('\n')
	if err := errors.Join(err, rerr); err != nil {
		return nil, fmt.Errorf("starting the bare server: %w", err)
	}
	return &bare{strings.TrimSpace(line), cmd, in}, nil
}

func (b *bare) stop() error { return errors.Join(b.life.Close(), b.cmd.Wait()) }

// serveBare reads a shape and serves it until standard input ends.
func serveBare(ctx context.Context) error {
	in := json.NewDecoder(os.Stdin)
	var s shape
	if err := in.Decode(&s); err != nil {
		return err
	}
	d := &doer{shape: s}
	if err := d.open(ctx); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	ended := make(chan error, 1)
	go func() { ended <- http.Serve(l, d) }()
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		ended <- err
	}()
	return errors.Join(<-ended, d.close())
}

// doer gives the same answer each time.
type doer struct {
	shape
	store storage.Store // nil if it commits nothing
	audit *os.File      // nil if it audits nothing
	value []byte
}

func (d *doer) open(ctx context.Context) (err error) {
	if d.Dir == "" {
		return nil
	}
	d.value = make([]byte, storage.MaxBytes)
	for i := range d.value {
		d.value[i] = byte(rand.Uint32()) // like encrypted values, which cannot be compressed
	}
	if len(d.Commits) > 0 {
		if d.store, err = pebble.Open(ctx, pebble.Options{Path: filepath.Join(d.Dir, "store")}); err != nil {
			return err
		}
	}
	if len(d.Audit) > 0 {
		d.audit, err = os.OpenFile(filepath.Join(d.Dir, "audit.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	return err
}

func (d *doer) close() (err error) {
	if d.audit != nil {
		err = d.audit.Close()
	}
	if d.store != nil {
		err = errors.Join(err, d.store.Close())
	}
	return err
}

// ServeHTTP implements [http.Handler].
func (d *doer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := d.work(r.Context(), strings.TrimPrefix(r.URL.Path, d.Folder)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h["Cache-Control"] = []string{"no-store"}
	if len(d.Body) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	h["Content-Type"] = []string{"application/json"}
	_, _ = w.Write(d.Body) // the client may have gone
}

func (d *doer) work(ctx context.Context, name string) error {
	if d.store != nil {
		for _, c := range d.Commits {
			if _, err := d.store.Commit(ctx, storage.Batch{Ops: d.ops(c, name)}); err != nil {
				return err
			}
		}
	}
	if d.audit == nil {
		return nil
	}
	_, err := d.audit.Write(d.Audit)
	return err
}

// ops returns the operations of one request.
func (d *doer) ops(c batch, name string) []storage.Op {
	ops := make([]storage.Op, len(c))
	for i := range c {
		o := &c[i]
		switch {
		case o.Stamp:
			ops[i] = storage.Append(o.Head, d.value[:o.Size])
		case o.Delete:
			ops[i] = storage.Remove(o.key(name))
		default:
			ops[i] = storage.Set(o.key(name), d.value[:o.Size])
		}
	}
	return ops
}
