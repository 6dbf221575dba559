package keeper

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/homing-im/homing/region"
)

const fenceFile = "fenced.json"

// fenced is what the file says while an admin has the region fenced.
type fenced struct {
	Since time.Time `json:"since"`
}

// Fence is the admin's word that this region admits no writes until [Keeper.Unfence],
// whatever the world says. It is on disk before it returns, and outlives restarts.
// Writes that were admitted before end as they would have.
//
// Errors: Internal when the disk refuses; nothing has changed then.
func (k *Keeper) Fence() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fenced != nil {
		return nil
	}
	f := &fenced{Since: time.Now().UTC().Truncate(time.Second)}
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := k.disk.write(fenceFile, data); err != nil {
		return err
	}
	k.log.Warn("no writes are admitted, as an admin said")
	k.fenced = f
	k.notifyLocked()
	return nil
}

// Unfence takes [Keeper.Fence] back.
//
// Errors: Internal when the disk refuses; nothing has changed then.
func (k *Keeper) Unfence() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fenced == nil {
		return nil
	}
	if err := removeLeftover(filepath.Join(k.o.Dir, fenceFile)); err != nil {
		return internal(err, "%s cannot be removed", fenceFile)
	}
	if err := syncDir(k.o.Dir); err != nil {
		return internal(err, "%s cannot be removed", fenceFile)
	}
	k.log.Warn("writes are admitted again, as an admin said")
	k.fenced = nil
	k.notifyLocked()
	return nil
}

// fence reads what an admin said before the restart; a file that cannot be read
// keeps the fence.
func (d *disk) fence() (*fenced, error) {
	data, err := os.ReadFile(filepath.Join(d.dir, fenceFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, internal(err, "%s cannot be read", fenceFile)
	}
	f := new(fenced)
	_ = json.Unmarshal(data, f) // the time is for people only
	return f, nil
}

func (f *fenced) err(name string) error {
	return region.Errorf(region.Unavailable, "an admin fenced region %s at %s", name, f.Since.Format(time.RFC3339)).
		WithHint("homing region unfence %s", name)
}
