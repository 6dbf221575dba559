package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/homing-im/homing/region"
)

// disk is the keeper's directory, locked against a second process.
type disk struct {
	dir  string
	lock *os.File
}

func internal(err error, format string, args ...any) *region.Error {
	return region.Errorf(region.Internal, format, args...).WithCause(err).WithHint("check the disk and the directory's owner")
}

func openDisk(dir string) (*disk, error) {
	f, err := os.OpenFile(filepath.Join(dir, "LOCK"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, internal(err, "the world's directory cannot be opened")
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(region.Errorf(region.Unavailable, "%s is in use by another process", dir).WithHint("stop it, or use another directory").WithCause(err), f.Close())
	}
	return &disk{dir: dir, lock: f}, nil
}

func (d *disk) close() error { return d.lock.Close() }

// write replaces a file so that after a crash it is the old or the new one,
// whole.
func (d *disk) write(name string, data []byte) error {
	path := filepath.Join(d.dir, name)
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return internal(err, "%s cannot be written", name)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return internal(errors.Join(err, removeLeftover(f.Name())), "%s cannot be written", name)
	}
	return nil
}

func removeLeftover(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *disk) saveEnvelope(e *region.Envelope) error {
	data, err := json.Marshal(e)
	if err != nil {
		return internal(err, "world %d cannot be written", e.Signed.Version)
	}
	return d.write(filepath.Join("worlds", fmt.Sprintf("%020d-%s.json", e.Signed.Version, e.Signed.Hash())), data)
}

// envelopes returns what is on disk, by version.
func (d *disk) envelopes() ([]*region.Envelope, error) {
	dir := filepath.Join(d.dir, "worlds")
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, internal(err, "the worlds cannot be read")
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Name() < files[j].Name() })
	var all []*region.Envelope
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, internal(err, "%s cannot be read", f.Name())
		}
		e := new(region.Envelope)
		if err := json.Unmarshal(data, e); err != nil || e.Signed == nil {
			return nil, internal(err, "%s is damaged", f.Name()).WithHint("move it away; the node fetches it again")
		}
		all = append(all, e)
	}
	return all, nil
}

func (d *disk) saveBallot(b region.Ballot) error {
	data, err := json.Marshal(b)
	if err != nil {
		return internal(err, "the ballot cannot be written")
	}
	return d.write("ballot.json", data)
}

func (d *disk) ballot() (b region.Ballot, err error) {
	data, err := os.ReadFile(filepath.Join(d.dir, "ballot.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return b, nil
	}
	if err != nil {
		return b, internal(err, "the ballot cannot be read")
	}
	if err := json.Unmarshal(data, &b); err != nil {
		// Forgetting a vote could elect two worlds, so this is not repaired silently.
		return b, internal(err, "ballot.json is damaged").WithHint("restore it; without it this voter could accept two successors")
	}
	return b, nil
}
