package pebble

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// groupMemory is what the committer keeps for the next group, in bytes: one large
// group must not cost it for the rest of the store's life.
const groupMemory = 16 << 20

// depth is how many groups are on their way to the disk at a time. With one,
// everybody whose commits are in it waits while it is written, and comes back at
// the same moment: processors idle and are overrun by turns. With two, one is
// filled and written while the other syncs.
const depth = 2

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
	under := make(chan *group, depth)
	landed := make(chan *pebble.Batch, depth) // to be used again
	for range depth {
		landed <- s.db.NewBatch(pebble.WithMaxRetainedSizeBytes(groupMemory))
	}
	var landing sync.WaitGroup
	landing.Go(func() { s.land(under, landed) })
	defer func() {
		close(under)
		landing.Wait()
		for range depth {
			if batch := <-landed; s.failed.Load() == nil { // after an error Pebble may still look at the memory
				_ = batch.Close()
			}
		}
	}()
	for range s.queue.wake {
		for {
			batch := <-landed // so that no more than depth are under way
			chunks := s.take()
			if len(chunks) == 0 {
				landed <- batch
				break
			}
			under <- s.depart(batch, chunks)
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

// take seals the open chunks, and what waits for the whole store: a fence goes
// behind the commits it let pass.
//
// The chunks are those of one moment, so that nothing is durable sooner than what
// was submitted before it to another partition: all partitions that have one are
// held until the last of them is sealed. Nobody else holds more than one.
func (s *Store) take() []*chunk {
	q := &s.queue
	var dirty []*part
	var wide []*chunk
	for {
		q.mu.Lock()
		more := q.dirty
		q.dirty = nil
		if len(more) == 0 {
			wide, q.wide = q.wide, nil
			q.mu.Unlock()
			break
		}
		q.mu.Unlock()
		for _, p := range more {
			p.mu.Lock()
		}
		dirty = append(dirty, more...)
	}
	var chunks []*chunk
	for _, p := range dirty {
		c := p.take()
		c.found, p.lookups = p.lookups, lookups{}
		if p.step.Touched {
			p.step.Touched = false
			p.scratch.value = appendState(p.scratch.value[:0], p.step.State)
			c.set(keyState(p.id), p.scratch.value, nil)
			c.view = newView(p.step.State)
		}
		chunks = append(chunks, c)
	}
	for _, p := range dirty {
		p.mu.Unlock()
	}
	return append(chunks, wide...)
}

// group is what becomes durable with one fsync.
type group struct {
	batch  *pebble.Batch // lends its memory
	chunks []*chunk
	snap   *snapshot // that shows the group; nil when it was not written
	err    error     // why it was not
}

// depart writes a group without waiting for the fsync.
func (s *Store) depart(batch *pebble.Batch, chunks []*chunk) *group {
	g := &group{batch: batch, chunks: chunks}
	if e := s.failed.Load(); e != nil {
		g.err = e
		return g
	}
	batch.Reset()
	for _, c := range chunks {
		g.err = errors.Join(g.err, batch.Apply(c.ops, nil))
	}
	for _, c := range chunks {
		if !c.log.Empty() {
			g.err = errors.Join(g.err, batch.Apply(c.log, nil))
		}
	}
	if g.err == nil {
		g.snap, g.err = s.write(batch)
	}
	if g.err != nil { // at once: Pebble takes nothing more after it
		g.err = s.fail(g.err)
	}
	return g
}

// land waits for the fsyncs of groups in the order in which they were written, and
// wakes their callers. After one that failed all do.
func (s *Store) land(under <-chan *group, landed chan<- *pebble.Batch) {
	var failed error
	for g := range under {
		if err := s.confirm(g, failed); err != nil {
			failed = err
		}
		for _, c := range g.chunks {
			c.err = failed
			c.free()
			close(c.done)
			s.telling.ended(c)
		}
		landed <- g.batch
	}
}

// confirm waits until a group is durable, and shows it to readers, unless one
// before it failed.
func (s *Store) confirm(g *group, failed error) error {
	if g.snap == nil {
		return g.err
	}
	start := time.Now()
	err := g.batch.SyncWait()
	s.metrics.sync.Observe(time.Since(start).Seconds())
	if failed != nil {
		err = failed
	}
	if err != nil {
		g.snap.release()
		return s.fail(err)
	}
	s.publish(g.snap, g.chunks)
	return nil
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
