package demo

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// marker is the file that makes a directory a demo's. --fresh removes nothing
// from a directory without it.
const marker = "homing-demo"

// prepare makes the directory, or empties it when fresh is said.
func prepare(dir string, fresh bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: say another --dir", err)
	}
	mine := false
	for _, e := range entries {
		mine = mine || e.Name() == marker
	}
	if len(entries) > 0 && !mine {
		return fmt.Errorf("%s is not empty and not a demo's directory: say another --dir", dir)
	}
	if fresh && mine {
		l, err := lockDir(dir) // never under a running demo
		if err != nil {
			return err
		}
		for _, e := range entries {
			if e.Name() != marker {
				err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
			}
		}
		if err = errors.Join(err, l.release()); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: say another --dir", err)
	}
	if mine {
		return nil
	}
	return os.WriteFile(filepath.Join(dir, marker), []byte("This directory is the state of a homing demo.\n"), 0o600)
}

// minRoom is what has to be free on the disk for a demo to start, bytes. A
// region's store refuses writes below 128 MiB, and a world needs some to begin
// with: without this check a demo would start that can keep nothing.
const minRoom = 256 << 20

// checkRoom refuses a full disk before anything is written to it.
func checkRoom(dir string) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("looking at the disk of %s: %w", dir, err)
	}
	if free := st.Bavail * uint64(st.Bsize); free < minRoom {
		return fmt.Errorf("the disk of %s has %d MiB free, and a demo wants %d: make room on it, or say a --dir on another one", dir, free>>20, minRoom>>20)
	}
	return nil
}

// lock is an flock on the marker: it goes with the process, however it ends.
type lock struct{ f *os.File }

func lockDir(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, marker), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("a demo is running in %s already: stop it with Ctrl-C, or say another --dir and --port-base", dir)
		}
		return nil, fmt.Errorf("locking %s: %w", dir, err)
	}
	return &lock{f: f}, nil
}

func (l *lock) release() error { return l.f.Close() }

// said adds what to do to an error of the machine.
func said(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w: make room on the disk, or say a --dir on another one", err)
	}
	return err
}
