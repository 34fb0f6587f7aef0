//go:build linux || darwin

package file

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// openFlags prevent following a link, and blocking if a pipe has replaced the file.
const openFlags = unix.O_NOFOLLOW | unix.O_NONBLOCK

// lock locks the file until it is closed, unless the file system does not support locks.
func lock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var locked error
	if err := conn.Control(func(fd uintptr) { locked = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB) }); err != nil {
		return err
	}
	if errors.Is(locked, unix.ENOTSUP) || errors.Is(locked, unix.ENOLCK) || errors.Is(locked, unix.ENOSYS) {
		return nil
	}
	return locked
}

// ownerTrusted reports whether the file is ours or root's.
func ownerTrusted(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
}

func executable(m fs.FileMode) bool { return m&0o111 != 0 }

// openToAll reports whether everyone may replace files in a folder. The sticky bit, as on /tmp,
// prevents it.
func openToAll(m fs.FileMode) bool { return m&0o002 != 0 && m&fs.ModeSticky == 0 }
