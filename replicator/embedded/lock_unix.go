//go:build unix

package embedded

import (
	"errors"
	"os"
	"syscall"
)

// lock is a file locked by this process; the kernel unlocks it when the process
// dies.
type lock struct{ file *os.File }

func acquire(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, errors.New("another process uses it: stop that one first")
	}
	return &lock{f}, nil
}

func (l *lock) release() { _ = l.file.Close() }
