package core

import (
	"context"
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// lease is how many UINs are reserved with one commit. A process that dies
// loses those it reserved and did not hand out.
const lease = 64

// numbers hands out UINs of this region, each once. They come from ranges that
// the Directory allots; a row of owner 0 says how far the newest range is used,
// so that nothing is handed out before it is durable that it was reserved.
type numbers struct {
	mu         sync.Mutex // held during commits and calls of the Directory
	next, last region.UIN // reserved for this process; none when next > last or 0
}

// registered returns the UIN reserved under a name, reserving one the first time.
func (n *numbers) registered(ctx context.Context, c *Core, name [16]byte) (region.UIN, error) {
	for range tries {
		r, err := c.o.Store.Get(ctx, 0, tableRegistration, name[:])
		if err != nil {
			return 0, err
		}
		if u, ok := numberOf(r.Value); ok && r.Exists() {
			return region.UIN(u), nil
		}
		u, err := n.take(ctx, c)
		if err != nil {
			return 0, err
		}
		_, err = c.o.Store.Commit(ctx, localBatch(store.Write{Table: tableRegistration, Row: name[:], Value: keyUIN(u), Expect: store.Absent()}))
		if region.KindOf(err) == region.Conflict {
			continue // the same request, twice at once
		}
		return u, err
	}
	return 0, region.Errorf(region.Unavailable, "the registration is under way elsewhere").WithHint("retry")
}

// take returns a UIN nobody else gets.
func (n *numbers) take(ctx context.Context, c *Core) (region.UIN, error) {
	if err := c.o.Admitting(); err != nil {
		return 0, region.Errorf(region.Unavailable, "region %s admits no writes now", c.o.Self).WithHint("retry").WithCause(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for try := 0; n.next == 0 || n.next > n.last; try++ {
		err := n.reserve(ctx, c)
		if err != nil && (region.KindOf(err) != region.Conflict || try == tries) {
			return 0, err
		}
	}
	u := n.next
	n.next++
	return u, nil
}

// reserve takes the next lease off the newest range, or off a new one.
func (n *numbers) reserve(ctx context.Context, c *Core) error {
	row, err := c.o.Store.Get(ctx, 0, tableRange, keySingle)
	if err != nil {
		return err
	}
	r := new(v1.RangeRow)
	if row.Exists() {
		if err := unmarshalRow(&row, r); err != nil {
			return err
		}
	}
	if r.Next == 0 || r.Next > r.Last {
		// The same key gives the same range, so an answer that was lost is asked for again.
		first, last, err := c.o.Directory.Allot(ctx, fmt.Sprintf("%s/%d", c.o.Self, r.Allotted+1), c.o.Range)
		if err != nil {
			return err
		}
		if err := c.ours(first, last); err != nil {
			return err
		}
		r = &v1.RangeRow{Next: uint64(first), Last: uint64(last), Allotted: r.Allotted + 1}
	}
	first := region.UIN(r.Next)
	last := min(first+lease-1, region.UIN(r.Last))
	r.Next = uint64(last) + 1
	b, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	_, err = c.o.Store.Commit(ctx, localBatch(store.Write{Table: tableRange, Row: keySingle, Value: b, Expect: store.AtVersion(row.Version)}))
	if err != nil {
		return err
	}
	n.next, n.last = first, last
	return nil
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

// localBatch is a batch of rows that never leave this region and are nobody's.
func localBatch(writes ...store.Write) *store.Batch { return &store.Batch{Writes: writes} }
