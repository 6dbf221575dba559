package core

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// directory is the ids service of a test: the same answers, and it can be cut off.
type directory struct {
	mu      sync.Mutex
	handles map[string]region.UIN
	ranges  map[string][2]region.UIN
	next    map[region.ID]region.UIN
	down    bool
	asked   int
}

func newDirectory(ids ...region.ID) *directory {
	d := &directory{handles: map[string]region.UIN{}, ranges: map[string][2]region.UIN{}, next: map[region.ID]region.UIN{}}
	for i, id := range ids {
		d.next[id] = region.UIN(i+1)*1_000_000 + 1
	}
	return d
}

func (d *directory) cut(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

func (d *directory) of(id region.ID) Directory { return &regionDirectory{d, id} }

type regionDirectory struct {
	*directory
	id region.ID
}

func (d *regionDirectory) enter() error {
	d.mu.Lock()
	if d.down {
		d.mu.Unlock()
		return region.Errorf(region.Unavailable, "ids is down")
	}
	return nil
}

func (d *regionDirectory) Claim(_ context.Context, handle string, owner region.UIN) error {
	if err := d.enter(); err != nil {
		return err
	}
	defer d.mu.Unlock()
	if o, ok := d.handles[handle]; ok && o != owner {
		return region.Errorf(region.Conflict, "taken")
	}
	d.handles[handle] = owner
	return nil
}

func (d *regionDirectory) Resolve(_ context.Context, handle string) (region.UIN, error) {
	if err := d.enter(); err != nil {
		return 0, err
	}
	defer d.mu.Unlock()
	if o, ok := d.handles[handle]; ok {
		return o, nil
	}
	return 0, region.Errorf(region.NotFound, "nobody has the handle")
}

func (d *regionDirectory) Allot(_ context.Context, key string, n int) (region.UIN, region.UIN, error) {
	if err := d.enter(); err != nil {
		return 0, 0, err
	}
	defer d.mu.Unlock()
	d.asked++
	r, ok := d.ranges[key]
	if !ok {
		r = [2]region.UIN{d.next[d.id], d.next[d.id] + region.UIN(n) - 1}
		d.next[d.id] = r[1] + 1
		d.ranges[key] = r
	}
	return r[0], r[1], nil
}

// notices records what was pushed, and holds that an owner's sequences ascend.
type notices struct {
	mu     sync.Mutex
	newest map[region.UIN]uint64
	gone   map[[8]byte]int // devices revoked, and how often it was told
	broken error
}

func (n *notices) Revoked(_ region.UIN, keyID [8]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.gone == nil {
		n.gone = map[[8]byte]int{}
	}
	n.gone[keyID]++
}

func (n *notices) revoked(keyID [8]byte) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gone[keyID]
}

func (n *notices) Notify(owner region.UIN, newest uint64, m *v1.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.newest == nil {
		n.newest = map[region.UIN]uint64{}
	}
	if newest <= n.newest[owner] || m.Sequence != newest {
		n.broken = fmt.Errorf("owner %d: notice of %d (message %d) after %d", owner, newest, m.Sequence, n.newest[owner])
	}
	n.newest[owner] = newest
}

func (n *notices) seen(owner region.UIN) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.newest[owner]
}

var errCrash = errors.New("crashed")

// faulty is a store whose process dies at a chosen write.
type faulty struct {
	store.Store
	mu      sync.Mutex
	plan    *crash
	dead    bool
	commits int
	of      map[region.UIN]int // commits, by owner
	rows    int
	bytes   int // of keys, values and payloads
}

// crash kills whichever region makes the step-th write.
type crash struct {
	mu    sync.Mutex
	step  int
	after bool // the write is durable, but nobody was told
	done  bool
}

func (k *crash) now() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.step--
	if k.step == 0 {
		k.done = true
		return true
	}
	return false
}

func (f *faulty) write(do func() error) error {
	f.mu.Lock()
	plan, dead := f.plan, f.dead
	f.mu.Unlock()
	if dead {
		return errCrash
	}
	if plan == nil || !plan.now() {
		return do()
	}
	if plan.after {
		_ = do()
	}
	f.mu.Lock()
	f.dead = true
	f.mu.Unlock()
	return errCrash
}

func (f *faulty) Commit(ctx context.Context, b *store.Batch) (r store.Receipt, err error) {
	err = f.write(func() error { r, err = f.Store.Commit(ctx, b); return err })
	if err == nil {
		f.mu.Lock()
		f.counted(b.Owner)
		f.rows += len(b.Writes) + len(b.Commands)
		for i := range b.Writes {
			f.bytes += len(b.Writes[i].Row) + len(b.Writes[i].Value)
		}
		for i := range b.Commands {
			f.bytes += len(b.Commands[i].Payload)
		}
		f.mu.Unlock()
	}
	return r, err
}

// counted counts a commit. f.mu is held.
func (f *faulty) counted(owner region.UIN) {
	f.commits++
	if f.of == nil {
		f.of = map[region.UIN]int{}
	}
	f.of[owner]++
}

func (f *faulty) Submit(ctx context.Context, b *store.Batch, then func(store.Receipt, error)) error {
	var crashed bool
	decided, durable := make(chan struct{}), make(chan struct{})
	s, submits := f.Store.(store.Submitter)
	var receipt store.Receipt
	begun := false
	err := f.write(func() (err error) {
		if !submits {
			receipt, err = f.Store.Commit(ctx, b)
			return err
		}
		err = s.Submit(ctx, b, func(r store.Receipt, err error) {
			<-decided
			if !crashed {
				then(r, err)
			}
			close(durable)
		})
		begun = err == nil
		return err
	})
	if crashed = err != nil; !crashed { // counted before anybody is told
		f.mu.Lock()
		f.counted(b.Owner)
		f.rows += len(b.Writes) + len(b.Commands)
		f.mu.Unlock()
	}
	close(decided)
	if err != nil {
		if begun {
			<-durable // but nobody was told
		}
		return err
	}
	if !submits {
		then(receipt, nil)
	}
	return nil
}

func (f *faulty) SetPosition(ctx context.Context, p journal.Position) error {
	return f.write(func() error { return f.Store.SetPosition(ctx, p) })
}

func (f *faulty) Apply(ctx context.Context, s journal.Stream, b []*journal.Batch) (a store.Applied, err error) {
	err = f.write(func() error { a, err = f.Store.Apply(ctx, s, b); return err })
	return a, err
}

func (f *faulty) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = false
}

func (f *faulty) isDead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}
