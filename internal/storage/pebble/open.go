package pebble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyturn/keyturn/internal/fault"
	"github.com/keyturn/keyturn/internal/storage"
)

// Driver is the storage driver "pebble".
var Driver = storage.Driver{
	Name: "pebble", Check: check, Open: openDriver,
	Params: []storage.Param{
		{
			Name: "cache_bytes", Takes: "bytes", Default: "29360128",
			Doc: "How much memory the cache of blocks takes, at least 1048576.",
		},
		{Name: "path", Takes: "path", Doc: "The folder to keep everything in."},
	},
}

func check(params map[string]string) error {
	_, err := optionsOf(params)
	return err
}

// optionsOf reads the parameters of the stanza.
func optionsOf(params map[string]string) (Options, error) {
	const op = "storage.Open"
	o := Options{Path: params["path"]}
	if o.Path == "" {
		return o, fault.New(op, fault.Invalid, `storage "pebble" needs path, the folder to keep everything in`)
	}
	if text, ok := params["cache_bytes"]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1<<20 {
			return o, fault.New(op, fault.Invalid,
				`storage "pebble": cache_bytes must be a number of at least 1048576, not %q`, text)
		}
		o.CacheBytes = n
	}
	return o, nil
}

func openDriver(ctx context.Context, params map[string]string, log *slog.Logger) (storage.Store, error) {
	o, err := optionsOf(params)
	if err != nil {
		return nil, err
	}
	o.Log = log
	s, err := Open(ctx, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Open opens the folder, which no other process may have open, and replays the log of the last
// process. The caller closes the store.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.setDefaults()
	if o.FS == vfs.Default {
		path, err := filepath.Abs(o.Path)
		if err != nil {
			return nil, fault.Wrap("storage.Open", fault.Invalid, err)
		}
		o.Path = path
	}
	lock, err := lockFolder(&o)
	if err != nil {
		return nil, err
	}
	if err := checkLayout(&o); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	end, err := openLogEnd(&o)
	if err != nil {
		return nil, errors.Join(fault.Wrap("storage.Open", fault.Internal, err), lock.Close())
	}
	s := &supervisor{
		opts:    o,
		log:     o.Log,
		cache:   pebble.NewCache(o.CacheBytes),
		lock:    lock,
		space:   newSpace(&o),
		feed:    storage.NewFeed(1),
		end:     end,
		numbers: numbers{seed: maphash.MakeSeed()},
		stop:    make(chan struct{}),
	}
	h, start, err := s.openHandle(ctx)
	if err == nil {
		err = s.install(h, start)
	}
	if err != nil {
		close(s.stop)
		s.cache.Unref()
		err = fmt.Errorf("opening the store in %s: %w", o.Path, err)
		return nil, errors.Join(fault.Wrap("storage.Open", fault.Internal, err), end.close(), lock.Close())
	}
	s.wg.Go(func() { s.space.run(s.stop) })
	return &Store{supervisor: s}, nil
}

func lockFolder(o *Options) (io.Closer, error) {
	const op = "storage.Open"
	if err := o.FS.MkdirAll(o.Path, 0o700); err != nil {
		return nil, &fault.Error{Op: op, Kind: fault.Invalid, Msg: "the storage folder " + o.Path +
			" cannot be created; create it, writable for the server's user", Err: err}
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(o.Path, "LOCK"))
	switch {
	case errors.Is(err, os.ErrPermission) && o.FS == vfs.Default && !writable(o.Path):
		return nil, &fault.Error{Op: op, Kind: fault.Invalid, Msg: "the storage folder " + o.Path +
			" may not be written by this user; give it to the server's user (chown)", Err: err}
	case err != nil:
		return nil, &fault.Error{Op: op, Kind: fault.Unavailable, Err: err, Msg: "the storage folder " + o.Path +
			" is in use by another process; stop that one, or give this one its own folder"}
	}
	return lock, nil
}

// writable distinguishes a folder without permission from a locked one, because both may cause the
// same error.
func writable(path string) bool {
	f, err := os.CreateTemp(path, "probe")
	if err != nil {
		return false
	}
	return errors.Join(f.Close(), os.Remove(f.Name())) == nil
}

// layoutPrefix precedes the number in the file LAYOUT.
const layoutPrefix = "keyturn storage layout "

// checkLayout reads the layout's number, or writes it into a new folder. It runs before Pebble
// opens the folder, because that may change files.
func checkLayout(o *Options) error {
	const op = "storage.Open"
	name := o.FS.PathJoin(o.Path, "LAYOUT")
	f, err := o.FS.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return newLayout(o, name)
	}
	if err != nil {
		return fault.Wrap(op, fault.Internal, fmt.Errorf("reading the layout: %w", err))
	}
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err := errors.Join(err, f.Close()); err != nil {
		return fault.Wrap(op, fault.Internal, fmt.Errorf("reading the layout: %w", err))
	}
	n, err := parseLayout(text)
	if err != nil {
		return fault.New(op, fault.Invalid,
			"%s is damaged: it should say %q and a number; restore the folder from a backup", name,
			strings.TrimSpace(layoutPrefix))
	}
	if n > storage.Layout {
		return fault.New(op, fault.Invalid,
			"the storage folder %s has layout %d and this keyturn knows layouts up to %d; run the newer keyturn "+
				"that wrote it",
			o.Path, n, storage.Layout)
	}
	return nil
}

func parseLayout(text []byte) (int, error) {
	number, ok := bytes.CutPrefix(text, []byte(layoutPrefix))
	number, ends := bytes.CutSuffix(number, []byte("\n"))
	if !ok || !ends {
		return 0, errors.New("not a layout")
	}
	n, err := strconv.ParseUint(string(number), 10, 31)
	if err != nil || n == 0 {
		return 0, errors.New("not a layout's number")
	}
	return int(n), nil
}

// newLayout writes the layout's number into a folder that contains no foreign files.
func newLayout(o *Options, name string) error {
	const op = "storage.Open"
	files, err := o.FS.List(o.Path)
	if err != nil {
		return fault.Wrap(op, fault.Internal, err)
	}
	for _, f := range files {
		if f != "LOCK" && f != "LAYOUT.new" && f != "lost+found" {
			return fault.New(op, fault.Invalid,
				"the storage folder %s holds %q but no LAYOUT: it is not keyturn's, or damaged; give an empty folder",
				o.Path, f)
		}
	}
	write := func() error {
		f, err := o.FS.Create(name+".new", vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "%s%d\n", layoutPrefix, storage.Layout)
		if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		if err := o.FS.Rename(name+".new", name); err != nil {
			return err
		}
		return syncFolders(o)
	}
	if err := write(); err != nil {
		return fault.Wrap(op, fault.Internal, fmt.Errorf("writing the layout: %w", err))
	}
	return nil
}

// syncFolders makes the folder's files durable, and its entry in the parent folder, if this user
// may read that.
func syncFolders(o *Options) error {
	if err := syncFolder(o.FS, o.Path); err != nil {
		return err
	}
	err := syncFolder(o.FS, o.FS.PathDir(o.Path))
	if errors.Is(err, os.ErrPermission) {
		return nil
	}
	return err
}

func syncFolder(fs vfs.FS, path string) error {
	dir, err := fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
