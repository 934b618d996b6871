//go:build unix

package pollsse

import (
	"os"

	"golang.org/x/sys/unix"
)

// descriptors returns how many descriptors the process uses, 0 if the system does
// not tell, and how many it may.
func descriptors() (used, limit int) {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil && r.Cur < 1<<31 {
		limit = int(r.Cur)
	}
	if names, err := os.ReadDir("/proc/self/fd"); err == nil {
		used = len(names)
	}
	return used, limit
}
