package logs

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// born is when a file was made; when it was written last where the file system
// does not know that.
func born(f *os.File, info fs.FileInfo) time.Time {
	var x unix.Statx_t
	err := unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &x)
	if err != nil || x.Mask&unix.STATX_BTIME == 0 {
		return info.ModTime()
	}
	return time.Unix(x.Btime.Sec, int64(x.Btime.Nsec))
}
