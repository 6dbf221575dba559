package disktest

import (
	"fmt"
	"syscall"
)

func mount(dir string, mib int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib))
}

// unmount takes the disk away even from who still has files open there, and
// then says so.
func unmount(dir string) error {
	err := syscall.Unmount(dir, 0)
	if err != nil {
		_ = syscall.Unmount(dir, syscall.MNT_DETACH)
	}
	return err
}
