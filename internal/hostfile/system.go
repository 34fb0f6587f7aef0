package hostfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// systemFolders contain programs, their configuration and the state of the system. Other programs
// execute, load or serve the files in them.
var systemFolders = []string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run", "/sbin", "/sys", "/usr",
	"/var/backups", "/var/cache", "/var/cron", "/var/mail", "/var/run", "/var/spool", "/var/www",
	"/var/lib/apt", "/var/lib/cloud", "/var/lib/containerd", "/var/lib/dbus", "/var/lib/docker", "/var/lib/dpkg",
	"/var/lib/kubelet", "/var/lib/rpm", "/var/lib/systemd",
	"/Applications", "/Library", "/System", "/private/etc", "/private/var/at", "/private/var/db", "/private/var/root",
	"/private/var/run",
}

// System returns why nothing should be written into dir unless the operator has listed it: it is
// in a system folder, or in one whose files programs read as configuration regardless of their
// names, such as "logrotate.d" and ".ssh"; "" if nothing is wrong. It checks the text of dir and,
// if dir exists, the real folder.
func System(dir string) (why string) {
	if why = byText(dir); why != "" {
		return why
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "" // nothing can be written there
	}
	if why = byText(real); why != "" {
		return why
	}
	_ = climb(real, func(info fs.FileInfo) bool { // a folder that cannot be looked at was judged by its text
		for _, folder := range systemFolders {
			if there, err := os.Stat(folder); err == nil && os.SameFile(info, there) {
				why = inSystem(folder)
				return false
			}
		}
		return true
	})
	return why
}

func byText(dir string) string {
	for part := range strings.SplitSeq(filepath.ToSlash(dir), "/") {
		if strings.HasPrefix(part, ".") || strings.HasSuffix(part, ".d") {
			return "programs take the files of a folder such as " + part + " for configuration"
		}
	}
	for _, folder := range systemFolders {
		if _, ok := below(dir, folder); ok {
			return inSystem(folder)
		}
	}
	return ""
}

func inSystem(folder string) string { return folder + " is a folder of the system" }
