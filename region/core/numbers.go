package core

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

const (
	// lease is how many UINs are reserved with one commit. A process that dies
	// loses those it reserved and did not hand out.
	lease = 64
	// askFirst and askLast bound the pause before ids is asked again.
	askFirst = 100 * time.Millisecond
	askLast  = 15 * time.Second
)

// numbers hands out UINs of this region, each once. They come from ranges that
// the Directory allots. A row of nobody says how far the range is used, so
// nothing is handed out before it is durable that it was reserved, and holds a
// spare range, asked for as soon as there is none, so that a region that is cut
// off goes on registering users.
type numbers struct {
	c   *Core
	low chan struct{} // holds a token when the spare range was taken

	mu         sync.Mutex // held during commits of the row
	next, last region.UIN // reserved by this process; none when next is 0 or beyond last

	asking sync.Mutex // held while the Directory is asked
}

func newNumbers(c *Core) *numbers {
	n := &numbers{c: c, low: make(chan struct{}, 1)}
	n.low <- struct{}{}
	return n
}

// run keeps a spare range.
func (n *numbers) run(ctx context.Context) {
	pause := askFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	<-timer.C
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.low:
		case <-timer.C:
		}
		err := n.ask(ctx)
		if err == nil {
			pause = askFirst
			continue
		}
		if pause == askLast && ctx.Err() == nil {
			n.c.log.Warn("no spare range of UINs; registration ends when this one is used up", "error", err)
		}
		timer.Reset(pause)
		pause = min(2*pause, askLast)
	}
}

// registered returns the UIN reserved under a name, reserving one the first time.
func (n *numbers) registered(ctx context.Context, name [16]byte) (region.UIN, error) {
	for try := 1; try < tries; try++ {
		r, err := n.c.o.Store.Get(ctx, nobody, tableRegistration, name[:])
		if err != nil {
			return 0, err
		}
		if u, ok := numberOf(r.Value); ok && r.Exists() {
			return region.UIN(u), nil
		}
		u, err := n.take(ctx)
		if err != nil {
			return 0, err
		}
		err = n.c.commitLocal(ctx, store.Write{Table: tableRegistration, Row: name[:], Value: keyUIN(u), Expect: store.Absent()})
		if region.KindOf(err) != region.Conflict {
			return u, err
		}
		if err := pause(ctx, try); err != nil { // the same request, twice at once
			return 0, err
		}
	}
	return 0, region.Errorf(region.Unavailable, "the registration is under way elsewhere").WithHint("retry")
}

// take returns a UIN nobody else gets.
func (n *numbers) take(ctx context.Context) (region.UIN, error) {
	if err := n.c.o.Admitting(); err != nil {
		return 0, region.Errorf(region.Unavailable, "region %s admits no writes now", n.c.o.Self).WithHint("retry").WithCause(err)
	}
	for try := 1; try < tries; try++ {
		u, err := n.reserved(ctx)
		if err == nil && u == 0 {
			err = n.ask(ctx) // both ranges are used up
		}
		if u != 0 || err != nil && region.KindOf(err) != region.Conflict {
			return u, err
		}
		if err != nil {
			if err := pause(ctx, try); err != nil {
				return 0, err
			}
		}
	}
	return 0, region.Errorf(region.Unavailable, "the range of UINs is contended").WithHint("retry")
}

// reserved hands out of the lease, and takes a new lease when it is used up. It
// returns 0 when the row has nothing left.
func (n *numbers) reserved(ctx context.Context) (region.UIN, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == 0 || n.next > n.last {
		r, version, err := n.load(ctx)
		if err != nil {
			return 0, err
		}
		if r.Next == 0 || r.Next > r.Last {
			if r.SpareFirst == 0 {
				return 0, nil
			}
			r.Next, r.Last, r.SpareFirst, r.SpareLast = r.SpareFirst, r.SpareLast, 0, 0
		}
		first, last := r.Next, min(r.Next+lease-1, r.Last)
		r.Next = last + 1
		if err := n.store(ctx, r, version); err != nil {
			return 0, err
		}
		n.next, n.last = region.UIN(first), region.UIN(last)
		if r.SpareFirst == 0 {
			select {
			case n.low <- struct{}{}:
			default:
			}
		}
	}
	u := n.next
	n.next++
	return u, nil
}

// ask gets a spare range unless there is one. The key of the request is durable
// before it leaves, so an answer that is lost is asked for again and no range is
// wasted; and it is random, so a store that lost its memory is not given a range
// it used already.
func (n *numbers) ask(ctx context.Context) error {
	n.asking.Lock()
	defer n.asking.Unlock()
	key, count, err := n.intend(ctx)
	if err != nil || key == "" {
		return err
	}
	first, last, err := n.c.o.Directory.Allot(ctx, key, int(count))
	if err != nil {
		return err
	}
	if err := n.c.ours(first, last); err != nil {
		return err
	}
	return n.change(ctx, func(r *v1.RangeRow) bool {
		if r.AskingKey != key {
			return false
		}
		r.SpareFirst, r.SpareLast, r.AskingKey, r.AskingCount = uint64(first), uint64(last), "", 0
		return true
	})
}

// intend makes the key of a request durable; it is empty when none is needed.
func (n *numbers) intend(ctx context.Context) (key string, count uint64, err error) {
	err = n.change(ctx, func(r *v1.RangeRow) bool {
		key, count = r.AskingKey, r.AskingCount
		if key != "" || r.SpareFirst != 0 {
			return false
		}
		key, count = string(n.c.o.Self)+"/"+rand.Text(), uint64(n.c.o.Range)
		r.AskingKey, r.AskingCount = key, count
		return true
	})
	return key, count, err
}

// change rewrites the row if edit says so.
func (n *numbers) change(ctx context.Context, edit func(*v1.RangeRow) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for try := 1; ; try++ {
		r, version, err := n.load(ctx)
		if err != nil || !edit(r) {
			return err
		}
		if err = n.store(ctx, r, version); region.KindOf(err) != region.Conflict || try == tries {
			return err
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

func (n *numbers) load(ctx context.Context) (*v1.RangeRow, uint64, error) {
	row, err := n.c.o.Store.Get(ctx, nobody, tableRange, keySingle)
	r := new(v1.RangeRow)
	if err == nil && row.Exists() {
		err = unmarshalRow(&row, r)
	}
	return r, row.Version, err
}

func (n *numbers) store(ctx context.Context, r *v1.RangeRow, version uint64) error {
	b, err := marshal(r)
	if err != nil {
		return err
	}
	return n.c.commitLocal(ctx, store.Write{Table: tableRange, Row: keySingle, Value: b, Expect: store.AtVersion(version)})
}

// ours refuses a range outside this region's segments: its users would belong
// to somebody else.
func (c *Core) ours(first, last region.UIN) error {
	v, err := c.view()
	if err != nil {
		return err
	}
	s, ok := v.World.SegmentOf(first)
	if !ok || first == 0 || first > last || s.Home != c.o.Self || !s.Contains(last) {
		return region.Errorf(region.Internal, "ids allotted UINs %d to %d, which are not in a segment of %s", first, last, c.o.Self).
			WithHint("the ids service has another world; compare them")
	}
	return nil
}

// commitLocal writes rows of nobody, under this region's own term.
func (c *Core) commitLocal(ctx context.Context, writes ...store.Write) error {
	v, err := c.view()
	if err != nil {
		return err
	}
	_, term, ok := v.Acting(c.o.Self)
	if !ok {
		return region.Errorf(region.Unavailable, "region %s is not in world %d", c.o.Self, v.World.Version).WithHint("push a world that has it")
	}
	_, err = c.o.Store.Commit(ctx, &store.Batch{Owner: nobody, Home: c.o.Self, Epoch: region.Epoch{Term: term}, Writes: writes})
	return err
}
