//go:build !unix

package embedded

import "os"

// lock is an open file. Without flock it keeps nobody out; two nodes on one
// directory then meet at the region store's lock.
type lock struct{ file *os.File }

func acquire(path string) (*lock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return &lock{f}, nil
}

func (l *lock) release() { _ = l.file.Close() }
