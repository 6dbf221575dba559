package pebble

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// maxGroup is when the committer stops adding chunks to a group, in bytes. It
// bounds how long the first caller of a group waits for the rest, and stays
// below the memtable, beyond which Pebble takes a slower path.
const maxGroup = 8 << 20

// queue is what waits for the committer.
type queue struct {
	wake chan struct{} // capacity 1

	closed atomic.Bool // set under mu; nothing is queued afterwards

	mu    sync.Mutex
	dirty []*part  // with an open chunk, in the order they got it
	wide  []*chunk // of the whole store
}

// signal wakes the committer.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed.Store(true)
	q.mu.Unlock()
}

// chunk returns the partition's open chunk. p.mu is held.
func (p *part) chunk() (*chunk, error) {
	if e := p.s.failed.Load(); e != nil {
		return nil, e
	}
	q := &p.s.queue
	if p.open != nil {
		return p.open, nil
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed.Load() {
		return nil, errClosed()
	}
	p.serial++
	p.open = p.s.newChunk(p)
	p.open.serial = p.serial
	q.dirty = append(q.dirty, p)
	q.signal()
	return p.open, nil
}

// submit queues a chunk of the whole store. It goes with or after every chunk
// that is open now.
func (s *Store) submit(c *chunk) error {
	if e := s.failed.Load(); e != nil {
		return e
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if s.queue.closed.Load() {
		return errClosed()
	}
	s.queue.wide = append(s.queue.wide, c)
	s.queue.signal()
	return nil
}

// commitLoop writes group after group until the store is closed and nothing
// waits. It owns the order of everything that is written.
func (s *Store) commitLoop() {
	defer close(s.done)
	s.telling.start()
	defer s.telling.stop()
	group := s.db.NewBatch(pebble.WithMaxRetainedSizeBytes(2 * maxGroup))
	defer func() {
		if s.failed.Load() == nil { // after an error Pebble may still look at the memory
			_ = group.Close()
		}
	}()
	for range s.queue.wake {
		for {
			chunks := s.take()
			if len(chunks) == 0 {
				break
			}
			s.commitGroup(group, chunks)
		}
		if s.queue.closed.Load() && s.idle() {
			return
		}
	}
}

// idle says whether nothing waits.
func (s *Store) idle() bool {
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	return len(s.queue.dirty) == 0 && len(s.queue.wide) == 0
}

// take seals the open chunks, up to a group's size, and what waits for the
// whole store once no partition is left out: a fence goes behind the commits it
// let pass.
func (s *Store) take() []*chunk {
	q := &s.queue
	q.mu.Lock()
	dirty, wide := q.dirty, q.wide
	q.dirty, q.wide = nil, nil
	q.mu.Unlock()

	var chunks []*chunk
	size := 0
	for i, p := range dirty {
		if size >= maxGroup {
			q.mu.Lock()
			q.dirty = append(dirty[i:], q.dirty...)
			q.wide = append(wide, q.wide...)
			q.mu.Unlock()
			return chunks
		}
		p.mu.Lock()
		c := p.open
		p.open, p.taken = nil, c
		p.fresh.take()
		c.found, p.lookups = p.lookups, lookups{}
		if p.step.Touched {
			p.step.Touched = false
			p.scratch.value = appendState(p.scratch.value[:0], p.step.State)
			c.set(keyState(p.id), p.scratch.value, nil)
			c.view = newView(p.step.State)
		}
		p.mu.Unlock()
		size += c.size()
		chunks = append(chunks, c)
	}
	return append(chunks, wide...)
}

// commitGroup makes chunks durable with one fsync and wakes their callers. The
// batch lends its memory.
func (s *Store) commitGroup(batch *pebble.Batch, chunks []*chunk) {
	snap, err := (*snapshot)(nil), error(nil)
	if e := s.failed.Load(); e != nil {
		err = e
	} else {
		batch.Reset()
		for _, c := range chunks {
			err = errors.Join(err, batch.Apply(c.ops, nil))
		}
		for _, c := range chunks {
			if !c.log.Empty() {
				err = errors.Join(err, batch.Apply(c.log, nil))
			}
		}
		if err == nil {
			snap, err = s.write(batch)
		}
	}
	if snap != nil {
		start := time.Now()
		err = batch.SyncWait()
		s.metrics.sync.Observe(time.Since(start).Seconds())
	}
	if err == nil {
		s.publish(snap, chunks)
	} else {
		if snap != nil {
			snap.release()
		}
		e := s.fail(err)
		for _, c := range chunks {
			c.err = e
		}
	}
	for _, c := range chunks {
		c.free()
		close(c.done)
		s.telling.ended(c)
	}
}

// write hands the batch to Pebble's log and memtable, without waiting for the
// fsync, and takes the snapshot that shows exactly what was written so far.
func (s *Store) write(batch *pebble.Batch) (*snapshot, error) {
	if err := s.db.ApplyNoSyncWait(batch, pebble.Sync); err != nil {
		return nil, err
	}
	return newSnapshot(s.db), nil
}

// publish shows a durable group to readers: rows first, then the views, which
// say up to where there are records to read.
func (s *Store) publish(snap *snapshot, chunks []*chunk) {
	s.snapMu.Lock()
	old := s.snap
	s.snap = snap
	s.snapMu.Unlock()
	old.release()
	m := s.metrics
	commits, writes, journal := 0, 0, 0
	var found lookups
	for _, c := range chunks {
		commits, writes, journal = commits+c.commits, writes+c.writes, journal+c.journal
		found.recent, found.absent, found.engine = found.recent+c.found.recent, found.absent+c.found.absent, found.engine+c.found.engine
		if c.view != nil {
			c.p.publish(c.view)
		}
	}
	m.Commits.Add(float64(commits))
	m.Writes.Add(float64(writes))
	m.Journal.Add(float64(journal))
	m.lookups(found)
	m.Group.Observe(float64(commits))
}
