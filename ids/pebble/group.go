package pebble

import (
	"errors"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/disk"
)

// op is one mutation on its way through run: a claim, or an allotment when allot
// is set. The result may be read when done is closed.
type op struct {
	handle ids.Handle
	owner  region.UIN
	allot  *ids.Allotment

	claimed  ids.Claimed
	allotted ids.Range
	err      error
	done     chan struct{}
}

// group is what one fsync carries.
type group struct {
	ops     []*op
	handles map[ids.Handle]struct{}
	owners  map[region.UIN]struct{}
	done    chan struct{} // closed when it is durable, or failed
}

func (g *group) touches(h ids.Handle, owner region.UIN) bool {
	if _, ok := g.handles[h]; ok {
		return true
	}
	_, ok := g.owners[owner]
	return ok
}

// run is the only writer. While it waits for an fsync the next mutations queue
// up, and become the next group.
func (s *Store) run() {
	defer close(s.joined)
	for {
		select {
		case o := <-s.ops:
			s.commit(s.collect(o))
		case <-s.stop:
			for { // those who were let in before the stop are still served
				select {
				case o := <-s.ops:
					s.commit(s.collect(o))
				default:
					return
				}
			}
		}
	}
}

func (s *Store) collect(first *op) *group {
	g := &group{ops: []*op{first}, handles: map[ids.Handle]struct{}{}, owners: map[region.UIN]struct{}{}, done: make(chan struct{})}
	for len(g.ops) < maxGroup {
		select {
		case o := <-s.ops:
			g.ops = append(g.ops, o)
		default:
			return g
		}
	}
	return g
}

// commit decides a group in order, makes it durable, and answers.
func (s *Store) commit(g *group) {
	b := s.db.NewIndexedBatch()
	defer func() {
		if s.failure() == nil { // after an error Pebble may still look at the memory
			_ = b.Close()
		}
	}()
	for _, o := range g.ops {
		if o.allot != nil {
			o.allotted, o.err = allot(b, *o.allot)
			continue
		}
		o.claimed, o.err = claim(b, o.handle, o.owner)
		if o.err == nil {
			g.handles[o.handle] = struct{}{}
			g.owners[o.owner] = struct{}{}
		}
	}

	err := s.failure()
	if err == nil && !b.Empty() {
		s.mu.Lock()
		s.flying = g
		s.mu.Unlock()
		start := time.Now()
		// Not Commit, which ends the process when the log cannot be written.
		if err = s.db.ApplyNoSyncWait(b, pebble.Sync); err == nil {
			err = b.SyncWait()
		}
		if err != nil {
			kind := region.Internal
			if disk.IsFull(err) {
				kind = region.Unavailable
			}
			err = region.Errorf(kind, "the ids store cannot write").WithHint("check the disk of the ids node, then restart it").WithCause(err)
			s.log.Error("ids store cannot write; it answers nothing until it is restarted", "dir", s.dir, "error", err)
		}
		s.m.commit.Observe(time.Since(start).Seconds())
		s.m.group.Observe(float64(len(g.ops)))
		s.mu.Lock()
		s.flying = nil
		s.failed = err
		s.mu.Unlock()
	}
	close(g.done)
	for _, o := range g.ops {
		if err != nil {
			o.err = err
		}
		close(o.done)
	}
}

func (s *Store) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// resolve, claim and allot are the rules of ids.Store over a reader or a batch
// that sees its own writes.

func resolve(r pebble.Reader, h ids.Handle) (ids.Claimed, error) {
	var hr handleRecord
	if ok, err := get(r, "handle", handleKey(h), &hr); err != nil || !ok {
		if err == nil {
			err = ids.Unknown(h)
		}
		return ids.Claimed{}, err
	}
	var or ownerRecord
	if ok, err := get(r, "owner", ownerKey(hr.Owner), &or); err != nil || !ok {
		if err == nil {
			err = damaged("owner", errors.New("missing"))
		}
		return ids.Claimed{}, err
	}
	return ids.Claimed{Handle: h, Owner: hr.Owner, Primary: or.primary()}, nil
}

func claim(b *pebble.Batch, h ids.Handle, owner region.UIN) (ids.Claimed, error) {
	var hr handleRecord
	had, err := get(b, "handle", handleKey(h), &hr)
	if err != nil {
		return ids.Claimed{}, err
	}
	if had && hr.Owner != owner {
		return ids.Claimed{}, ids.Taken(h)
	}
	var or ownerRecord
	known, err := get(b, "owner", ownerKey(owner), &or)
	if err != nil {
		return ids.Claimed{}, err
	}
	c := ids.Claimed{Handle: h, Owner: owner, Primary: h}
	if known && or.primary() == h {
		return c, nil
	}
	if !had {
		if len(or.Handles) >= ids.MaxHandles {
			return ids.Claimed{}, ids.TooMany()
		}
		if err := b.Set(handleKey(h), encode(handleRecord{Owner: owner}), nil); err != nil {
			return ids.Claimed{}, err
		}
	}
	or.Handles = append(slices.DeleteFunc(or.Handles, func(x ids.Handle) bool { return x == h }), h)
	return c, b.Set(ownerKey(owner), encode(or), nil)
}

func allot(b *pebble.Batch, a ids.Allotment) (ids.Range, error) {
	var have rangeRecord
	if ok, err := get(b, "allotment", keyKey(a.Region, a.Key), &have); err != nil {
		return ids.Range{}, err
	} else if ok {
		if !have.is(a) {
			return ids.Range{}, ids.KeyReused(a.Key)
		}
		return ids.Range{First: have.First, Last: have.Last}, nil
	}
	for _, s := range a.Segments {
		newest, err := newestIn(b, s)
		if err != nil {
			return ids.Range{}, err
		}
		r, ok := ids.Next(s, newest, a.N)
		if !ok {
			continue
		}
		v := encode(rangeRecord{First: r.First, Last: r.Last, Home: a.Home, Region: a.Region, Key: a.Key})
		if err := errors.Join(b.Set(rangeKey(r.First), v, nil), b.Set(keyKey(a.Region, a.Key), v, nil)); err != nil {
			return ids.Range{}, err
		}
		return r, nil
	}
	return ids.Range{}, ids.Exhausted(a.Home, a.N)
}

// newestIn returns the allotted range with the greatest First up to the
// segment's end.
func newestIn(r pebble.Reader, s region.Segment) (*ids.Range, error) {
	upper := append(rangeKey(s.Last), 0) // excluded, so s.Last itself is seen
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{'r'}, UpperBound: upper})
	if err != nil {
		return nil, err
	}
	if !it.Last() {
		return nil, errors.Join(it.Error(), it.Close())
	}
	var rr rangeRecord
	err = decode("range", it.Value(), &rr)
	if err := errors.Join(err, it.Close()); err != nil {
		return nil, err
	}
	return &ids.Range{First: rr.First, Last: rr.Last}, nil
}

func get(r pebble.Reader, what string, key []byte, v any) (bool, error) {
	b, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, region.Errorf(region.Internal, "the ids store cannot read").WithHint("check the disk of the ids node").WithCause(err)
	}
	defer func() { _ = closer.Close() }()
	return true, decode(what, b, v)
}
