// Package disktest gives tests a small disk that they can fill.
package disktest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Disk is a tmpfs of its own.
type Disk struct {
	Dir string
	t   testing.TB
}

// New mounts a tmpfs of so many MiB until the test ends. It skips the test where
// nobody may mount one.
func New(t testing.TB, mib int) *Disk {
	t.Helper()
	d := &Disk{Dir: t.TempDir(), t: t}
	if err := mount(d.Dir, mib); err != nil {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unmount(d.Dir); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return d
}

// Fill writes a file until nothing fits any more.
func (d *Disk) Fill() {
	d.t.Helper()
	f, err := os.OpenFile(d.file(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(b)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		d.t.Fatal(err)
	}
}

// Free removes what Fill wrote.
func (d *Disk) Free() {
	d.t.Helper()
	if err := os.Remove(d.file()); err != nil {
		d.t.Fatal(err)
	}
}

func (d *Disk) file() string { return filepath.Join(d.Dir, "somebody-elses-file") }
