package client

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// maxKept is how many messages an outbox holds. A region without a backup that
// answers keeps clients from forgetting; it must not fill their memory.
const maxKept = 10_000

// kept is a message that the backup of its region is not known to hold.
type kept struct {
	req    *v1.SendRequest
	number uint64 // in the order of sending
	busy   int    // Sends under way

	// Of the newest answer; zero until there is one.
	acked bool
	epoch region.Epoch
	mark  *v1.Mark
}

// outbox keeps what was sent until a region says that its backup holds it too.
//
// Invariants:
//
//  1. A message is in it from before its first byte leaves until its answer's
//     mark is held in the answer's epoch and incarnation, it is refused for good,
//     or the app forgets it.
//  2. With a directory, a message is on disk (fsynced) before its first byte
//     leaves.
type outbox struct {
	disk *outboxDir // nil keeps it in memory
	log  *slog.Logger
	wake chan struct{} // of capacity 1: there is something to look at

	mu       sync.Mutex
	messages map[string]*kept // by client message ID
	next     uint64           // number
}

// openOutbox reads what an earlier client left in dir; "" keeps it in memory.
func openOutbox(dir string, log *slog.Logger) (*outbox, error) {
	b := &outbox{log: log, wake: make(chan struct{}, 1), messages: map[string]*kept{}, next: 1}
	if dir == "" {
		return b, nil
	}
	disk, left, err := openOutboxDir(dir, log)
	if err != nil {
		return nil, err
	}
	b.disk = disk
	for _, k := range left {
		b.messages[k.req.ClientMessageId] = k
		b.next = max(b.next, k.number+1)
	}
	return b, nil
}

func (b *outbox) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// keep takes a message in before it is sent; done has to follow. Errors:
// region.Conflict when another message is kept under its ID, region.Overloaded
// when nothing can make room.
func (b *outbox) keep(req *v1.SendRequest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.messages[req.ClientMessageId]
	if k == nil {
		if err := b.makeRoom(); err != nil {
			return err
		}
		k = &kept{req: proto.CloneOf(req), number: b.next}
		b.next++
		if len(b.messages) == 0 {
			b.nudge() // from now on the region is asked what its backup holds
		}
		b.messages[req.ClientMessageId] = k
		b.disk.write(k, true)
	} else if !proto.Equal(k.req, req) {
		return region.Errorf(region.Conflict, "another message was sent under this client message ID").WithHint("use a new one for each message")
	}
	k.busy++
	return nil
}

// makeRoom gives up the oldest message that a region has acknowledged, when the
// outbox is full.
func (b *outbox) makeRoom() error {
	if len(b.messages) < maxKept {
		return nil
	}
	var oldest *kept
	for _, k := range b.messages {
		if k.acked && k.busy == 0 && (oldest == nil || k.number < oldest.number) {
			oldest = k
		}
	}
	if oldest == nil {
		return region.Errorf(region.Overloaded, "%d messages wait to be sent", maxKept).WithHint("wait until there is a connection")
	}
	b.log.Warn("a message is no longer kept for its region's backup: there are too many", "limit", maxKept)
	b.remove(oldest)
	return nil
}

func (b *outbox) remove(k *kept) {
	delete(b.messages, k.req.ClientMessageId)
	b.disk.remove(k)
}

// done takes what became of one try of a message. refused is an error that the
// same message will meet again.
func (b *outbox) done(id string, epoch region.Epoch, resp *v1.SendResponse, refused bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := b.messages[id]
	if k == nil {
		return // forgotten meanwhile
	}
	k.busy--
	switch {
	case refused:
		b.remove(k)
	case resp != nil && resp.Mark == nil:
		b.remove(k) // the region is of a version that does not tell what its backup has
	case resp != nil:
		k.acked, k.epoch, k.mark = true, epoch, resp.Mark
		// Not fsynced: what is lost of it costs another send under the same ID.
		b.disk.write(k, false)
	default:
		b.nudge() // its outcome is unknown: it is sent again
	}
}

// held forgets what the backup has, as a region said at an epoch, and calls
// back what an older incarnation of its store acknowledged.
func (b *outbox) held(epoch region.Epoch, m *v1.Mark) {
	if m == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.messages {
		if !k.acked || k.epoch != epoch {
			continue
		}
		switch {
		case k.mark.Incarnation == m.Incarnation && k.mark.Sequence <= m.Sequence && k.busy == 0:
			b.remove(k)
		case k.mark.Incarnation < m.Incarnation:
			k.acked = false
			b.nudge()
		}
	}
}

// due returns what has to be sent under an epoch: what was never answered, and
// what was acknowledged under another epoch; oldest first, without what a Send
// is busy with.
func (b *outbox) due(epoch region.Epoch) []*v1.SendRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []*kept
	for _, k := range b.messages {
		if k.busy == 0 && (!k.acked || k.epoch != epoch) {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b *kept) int { return cmp.Compare(a.number, b.number) })
	reqs := make([]*v1.SendRequest, len(list))
	for i, k := range list {
		reqs[i] = k.req
	}
	return reqs
}

// all returns what is kept, oldest first.
func (b *outbox) all() []*kept {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]*kept, 0, len(b.messages))
	for _, k := range b.messages {
		c := *k
		list = append(list, &c)
	}
	slices.SortFunc(list, func(a, b *kept) int { return cmp.Compare(a.number, b.number) })
	return list
}

func (b *outbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages) == 0
}

func (b *outbox) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k := b.messages[id]; k != nil {
		b.remove(k)
	}
}
