package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"strconv"

	"github.com/keyturn/keyturn/internal/server/config"
)

// listenUnix binds a Unix socket. It replaces one that an ended process has left, but not that of
// a running process.
func listenUnix(ctx context.Context, path string, s config.Socket) (net.Listener, error) {
	uid, gid, err := owners(s)
	if err != nil {
		return nil, err
	}
	if err := clearSocket(ctx, path); err != nil {
		return nil, err
	}
	// Until it has its mode and owner, only this user may connect.
	restore := privateFiles()
	var lc net.ListenConfig
	socket, err := lc.Listen(ctx, "unix", path)
	restore()
	if err != nil {
		if op, ok := errors.AsType[*net.OpError](err); ok {
			err = op.Err
		}
		return nil, err
	}
	if uid >= 0 || gid >= 0 {
		err = os.Chown(path, uid, gid)
	}
	mode := os.FileMode(s.Mode & 0o777)
	for bit, to := range map[uint32]os.FileMode{0o4000: os.ModeSetuid, 0o2000: os.ModeSetgid, 0o1000: os.ModeSticky} {
		if s.Mode&bit != 0 {
			mode |= to
		}
	}
	if s.Mode == 0 {
		mode = 0o777 &^ umask()
	}
	if err = errors.Join(err, os.Chmod(path, mode)); err != nil {
		return nil, errors.Join(fmt.Errorf("socket_mode, socket_user, socket_group: %w", err), socket.Close())
	}
	return socket, nil
}

// clearSocket removes a socket that no process listens on.
func clearSocket(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != os.ModeSocket:
		return errors.New("a file that is not a socket is in its place; remove it, or choose another path")
	}
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		return errors.Join(errors.New("another process listens there; stop it, or choose another path"), c.Close())
	}
	return os.Remove(path)
}

// owners are the numbers of the user and group that a socket is to have; -1: it
// keeps the process's.
func owners(s config.Socket) (uid, gid int, err error) {
	uid, gid = -1, -1
	if s.User != "" {
		if uid, err = strconv.Atoi(s.User); err != nil {
			u, err := user.Lookup(s.User)
			if err != nil {
				return 0, 0, fmt.Errorf("socket_user: there is no user %q; create it, or give a number", s.User)
			}
			uid, _ = strconv.Atoi(u.Uid) // a number wherever sockets have owners
		}
	}
	if s.Group != "" {
		if gid, err = strconv.Atoi(s.Group); err != nil {
			g, err := user.LookupGroup(s.Group)
			if err != nil {
				return 0, 0, fmt.Errorf("socket_group: there is no group %q; create it, or give a number", s.Group)
			}
			gid, _ = strconv.Atoi(g.Gid)
		}
	}
	return uid, gid, nil
}
