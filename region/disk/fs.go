package disk

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS returns the file system that the engine has to use.
func (g *Guard) FS() vfs.FS {
	if g.size == 0 {
		return g.o.FS
	}
	return &guarded{FS: g.o.FS, g: g}
}

// guarded tries again with the ballast's room what ends the engine when it
// fails, and holds up what the engine tries for ever.
type guarded struct {
	vfs.FS
	g *Guard
}

// Unwrap implements vfs.FS.
func (fs *guarded) Unwrap() vfs.FS { return fs.FS }

// patient says whether the engine tries a file again by itself: tables, which it
// makes of what is in its log.
func patient(name string) bool {
	return strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob")
}

// try calls op, and once more when the disk was full and the ballast has made
// room.
func (g *Guard) try(patient bool, op func() error) error {
	err := op()
	switch {
	case !IsFull(err):
	case patient:
		g.pause()
	case g.give():
		err = op()
	}
	return err
}

func (fs *guarded) file(name string, open func() (vfs.File, error)) (f vfs.File, err error) {
	p := patient(name)
	err = fs.g.try(p, func() error {
		f, err = open()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &file{File: f, g: fs.g, patient: p}, nil
}

// Create implements vfs.FS.
func (fs *guarded) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(name, func() (vfs.File, error) { return fs.FS.Create(name, c) })
}

// OpenReadWrite implements vfs.FS.
func (fs *guarded) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return fs.file(name, func() (vfs.File, error) { return fs.FS.OpenReadWrite(name, c, o...) })
}

// ReuseForWrite implements vfs.FS.
func (fs *guarded) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return fs.file(to, func() (vfs.File, error) { return fs.FS.ReuseForWrite(from, to, c) })
}

// Rename implements vfs.FS.
func (fs *guarded) Rename(from, to string) error {
	return fs.g.try(patient(to), func() error { return fs.FS.Rename(from, to) })
}

// Link implements vfs.FS.
func (fs *guarded) Link(from, to string) error {
	return fs.g.try(patient(to), func() error { return fs.FS.Link(from, to) })
}

// file is a file that is written.
type file struct {
	vfs.File
	g       *Guard
	patient bool
}

// Write implements io.Writer; the second try writes what the first one left.
func (f *file) Write(b []byte) (n int, err error) {
	err = f.g.try(f.patient, func() error {
		w, err := f.File.Write(b[n:])
		n += w
		return err
	})
	return n, err
}

// WriteAt implements io.WriterAt.
func (f *file) WriteAt(b []byte, at int64) (n int, err error) {
	err = f.g.try(f.patient, func() error {
		w, err := f.File.WriteAt(b[n:], at+int64(n))
		n += w
		return err
	})
	return n, err
}

// Sync implements vfs.File. It is never tried again: after a failed sync nobody
// knows what the disk has, and a second one would succeed all the same.
func (f *file) Sync() error { return f.synced(f.File.Sync()) }

// SyncData implements vfs.File, as Sync.
func (f *file) SyncData() error { return f.synced(f.File.SyncData()) }

func (f *file) synced(err error) error {
	switch {
	case !IsFull(err):
	case f.patient:
		f.g.pause()
	default:
		f.g.give()
	}
	return err
}
