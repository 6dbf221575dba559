package replicator

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/dump"
)

const (
	// scanRound is how long looking at all partitions takes at least: a row that
	// was changed behind the store's back is noticed after one round.
	scanRound = time.Second

	// scanWithin is how long it may take where that costs no more than a fifth of
	// one processor: what is noticed has to be shown too within three seconds.
	scanWithin = 2 * time.Second

	// scanShare is how many times longer than looking the pause after it is in
	// larger or busier stores, so that looking takes a twentieth of one processor,
	// however large the store.
	scanShare = 19

	// scanBusy is how many records a partition's journal gains from one look to the
	// next in a busy store, whose processors the looks must not take: at 12,000
	// messages a second they took 7 % of a node's processor time.
	scanBusy = 1000
)

// scanPause is how long to wait after a look at one of n partitions that took a
// while and found so many new records in its journal.
func scanPause(took time.Duration, n int, gained uint64) time.Duration {
	least, most := scanRound/time.Duration(n), scanWithin/time.Duration(n)
	if 5*took > most || gained > scanBusy {
		return max(least-took, scanShare*took)
	}
	return max(least-took, min(scanShare*took, most-took))
}

// looks are how long the last looks took. The shortest says what a look costs: the
// others waited for a processor or a database, which costs nobody anything, and a
// pause of many times that would leave a changed row unnoticed for long.
type looks [4]time.Duration

// least takes one more, and returns the shortest; 0 until there are enough to tell:
// the first one finds everything cold.
func (l *looks) least(took time.Duration) time.Duration {
	copy(l[1:], l[:])
	l[0] = took
	return slices.Min(l[:])
}

// Damage is a home whose rows in a partition of this region's store are not those
// that the store wrote.
type Damage struct {
	Partition region.Partition `json:"partition"`
	Home      region.ID        `json:"home"`
}

// scanner adds the rows of every partition up again, for ever, and tells of those
// that are not what the store keeps as their digest.
type scanner struct {
	options *Options
	replay  *Replay
	metrics *metrics
	cancel  context.CancelFunc
	group   sync.WaitGroup

	mu      sync.Mutex
	damaged map[Damage]bool
}

func newScanner(o *Options, replay *Replay, m *metrics) *scanner {
	return &scanner{options: o, replay: replay, metrics: m, damaged: map[Damage]bool{}, cancel: func() {}}
}

func (s *scanner) start() {
	if s.options.Mend == nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.group.Go(func() { s.run(ctx) })
}

func (s *scanner) close() {
	s.cancel()
	s.group.Wait()
}

func (s *scanner) run(ctx context.Context) {
	n := s.options.Store.Partitions()
	failing := false
	var lately looks
	next := make([]uint64, n) // of each partition's journal, at the last look
	for p := range next {
		next[p] = s.options.Store.Head(region.Partition(p)).Next
	}
	for p := 0; ; p = (p + 1) % n {
		start := time.Now()
		head := s.options.Store.Head(region.Partition(p)).Next
		gained := head - next[p]
		next[p] = head
		found, err := dump.Scan(ctx, s.options.Mend, region.Partition(p))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failing {
				s.options.Logger.Warn("the store's rows cannot be looked at", "partition", p, "error", err)
			}
		default:
			s.note(region.Partition(p), found)
		}
		failing = err != nil
		if !wait(ctx, scanPause(lately.least(time.Since(start)), n, gained)) {
			return
		}
	}
}

// note takes what one look at a partition found.
func (s *scanner) note(p region.Partition, found []dump.Difference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := map[Damage]bool{}
	for _, f := range found {
		d := Damage{p, f.Home}
		now[d] = true
		if !s.damaged[d] {
			s.options.Logger.Error("rows were changed behind the store's back", "partition", p, "home", f.Home)
		}
		s.replay.damaged(p, f.Home)
	}
	for d := range s.damaged {
		if d.Partition == p && !now[d] {
			delete(s.damaged, d)
		}
	}
	for d := range now {
		s.damaged[d] = true
	}
	s.metrics.damaged.Set(float64(len(s.damaged)))
}

// Damaged returns what was changed behind the back of this region's store, as far
// as it was noticed, in order. It does not block.
func (r *Replicator) Damaged() []Damage { return r.scanner.list() }

// list returns what is damaged, in order.
func (s *scanner) list() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []Damage{}
	for d := range s.damaged {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b Damage) int {
		if a.Partition != b.Partition {
			return int(a.Partition) - int(b.Partition)
		}
		return strings.Compare(string(a.Home), string(b.Home))
	})
	return out
}

// damaged tells whoever copies the home's rows into a partition.
func (r *Replay) damaged(p region.Partition, home region.ID) {
	v := r.options.View()
	if v == nil {
		return
	}
	acting, _, _ := v.Acting(home)
	r.mu.Lock()
	o := r.origins[acting]
	r.mu.Unlock()
	if o == nil {
		return // this region's own, which nobody else's copy can be above
	}
	for _, c := range o.cursors {
		if _, commands := c.stream.To(); commands || c.partition != p {
			continue
		}
		c.count(func(p *progress) {
			if p.differs == "" {
				p.differs = "rows of home " + string(home) + " were changed behind the store's back; homing replicate repair mends them"
			}
		})
	}
}

// learnTaken looks whether this region has all rows of the homes that the origin
// took over: its journal alone does not make them, since others wrote them before.
// Only a backup has own rows, so only stream full is looked at.
func (c *cursor) learnTaken(before journal.StreamHead, h *Head) {
	if c.stream != journal.Full || c.mender.replica == nil || c.halted() {
		return
	}
	turns := c.replica.Turns(c.partition)
	took := map[region.ID]bool{}
	for _, t := range h.Taken {
		took[t.Home] = true
	}
	c.mu.Lock()
	c.mender.took = took
	c.mu.Unlock()
	differ := ""
	for _, t := range h.Taken {
		turn := turns[t.Home]
		if !turn.Comparable() {
			continue
		}
		w := c.sums.Sums(c.partition, t.Home)
		if string(t.Shared) == string(w.SharedSum[:]) && string(t.Own) == string(w.OwnSum[:]) {
			c.prove(t.Home)
		} else {
			if c.unproven(t.Home) { // while people write, two digests of different moments never agree
				c.want("this region is the new backup of home " + string(t.Home))
			}
			differ += string(t.Home) + string(t.Shared) + string(t.Own) + string(w.SharedSum[:]) + string(w.OwnSum[:])
		}
	}
	// Digests are read apart from heads, so it takes two answers that agree while
	// everything is applied.
	if differ != "" && before.Last == h.Last(c.stream) && differ == c.mender.seen && differ != c.mender.done {
		c.mender.done = differ
		c.want("the origin took homes over, whose rows are not all here")
	}
	c.mender.seen = differ
}
