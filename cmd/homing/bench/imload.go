package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/wire"
)

// traffic says who writes to whom. Message n is from sender(n); a lane is what
// has an order: one sender's messages as one recipient gets them.
type traffic struct {
	people  []*person
	groups  []region.UIN // none: 1:1
	members int          // of a group
}

// peers is how many others a user writes to, in turn.
const peers = 8

func (t *traffic) sender(n int) *person { return t.people[n%len(t.people)] }

// to is the user or group that message n goes to.
func (t *traffic) to(n int) region.UIN {
	if len(t.groups) > 0 {
		return t.groups[n%len(t.people)%len(t.groups)]
	}
	return t.people[t.recipient(n)].UIN
}

// recipient is the index of the user that a 1:1 message is for.
func (t *traffic) recipient(n int) int {
	users := len(t.people)
	step := 1 + n/users%peers*(max(1, users/peers-1))
	if step%users == 0 {
		step = 1
	}
	return (n + step) % users
}

// fan is how many deliveries a message makes.
func (t *traffic) fan() int {
	if len(t.groups) > 0 {
		return t.members - 1
	}
	return 1
}

// slots is how many bits of a load's bitmap a message takes.
func (t *traffic) slots() int { return max(1, t.members) }

// slot is p's place among the recipients of message n; false when p is none.
func (t *traffic) slot(p *person, n int) (int, bool) {
	if len(t.groups) == 0 {
		return 0, t.recipient(n) == p.index
	}
	return p.index / len(t.groups), n%len(t.people)%len(t.groups) == p.index%len(t.groups)
}

// recipients calls f for everybody who has to get message n.
func (t *traffic) recipients(n int, f func(p *person, slot int)) {
	if len(t.groups) == 0 {
		f(t.people[t.recipient(n)], 0)
		return
	}
	from := n % len(t.people)
	for slot := range t.members {
		if i := from%len(t.groups) + slot*len(t.groups); i != from {
			f(t.people[i], slot)
		}
	}
}

// load is one run at one rate.
type load struct {
	traffic
	run      string
	interval time.Duration
	warm     int // messages before this number are not measured
	total    int
	text     string
	start    time.Time

	seen  []atomic.Uint64 // a bit for each delivery
	acked []atomic.Uint64 // a bit for each message
	last  [][]uint32      // of a person and a sender: the newest message, plus 1; of the person's reader

	delays, acks                          []histogram // of a person; of its reader
	sent, answered, refused               atomic.Int64
	delivered, duplicates, disorder, bare atomic.Int64
	unsendable                            atomic.Int64 // for want of a connection
	measuredDeliveries, measuredAnswers   atomic.Int64
}

func newLoad(t traffic, run string, o *IMOptions, rate float64) *load {
	l := &load{traffic: t, run: run, interval: time.Duration(float64(time.Second) / rate), text: strings.Repeat("x", o.Bytes)}
	l.warm = int(rate * o.Warmup.Seconds())
	l.total = l.warm + int(rate*o.Duration.Seconds())
	l.seen = make([]atomic.Uint64, (l.total*t.slots()+63)/64)
	l.acked = make([]atomic.Uint64, (l.total+63)/64)
	l.last = make([][]uint32, len(t.people))
	for i := range l.last {
		if len(t.groups) > 0 {
			l.last[i] = make([]uint32, t.members)
		} else {
			l.last[i] = make([]uint32, peers)
		}
	}
	l.delays, l.acks = make([]histogram, len(t.people)), make([]histogram, len(t.people))
	l.start = time.Now().Add(10 * time.Millisecond)
	return l
}

func (l *load) due(n int) time.Time { return l.start.Add(time.Duration(n) * l.interval) }

// set sets a bit and says whether it was set before.
func set(bits []atomic.Uint64, i int) bool {
	mask := uint64(1) << (i % 64)
	return bits[i/64].Or(mask)&mask != 0
}

func isSet(bits []atomic.Uint64, i int) bool { return bits[i/64].Load()>>(i%64)&1 != 0 }

// pushed takes a notice.
func (l *load) pushed(p *person, body []byte) {
	run, number, sender, ok := noticed(body)
	switch {
	case !ok:
		l.bare.Add(1)
	case sender != p.UIN && run == l.run && number < uint64(l.total):
		l.arrived(p, int(number), true)
	}
}

// arrived notes a delivery, by push or by sync.
func (l *load) arrived(p *person, n int, timed bool) {
	slot, mine := l.slot(p, n)
	if !mine {
		l.disorder.Add(1) // somebody else's message
		return
	}
	if set(l.seen, n*l.slots()+slot) {
		if timed {
			l.duplicates.Add(1)
		}
		return
	}
	l.delivered.Add(1)
	if !timed {
		return
	}
	lane := n / len(l.people) % peers
	if len(l.groups) > 0 {
		lane = n % len(l.people) / len(l.groups)
	}
	if last := &l.last[p.index][lane]; uint32(n) < *last {
		l.disorder.Add(1)
	} else {
		*last = uint32(n) + 1
	}
	if n >= l.warm {
		l.measuredDeliveries.Add(1)
		l.delays[p.index].add(time.Since(l.due(n)))
	}
}

// answeredTo takes the answer to a Send.
func (l *load) answeredTo(p *person, sequence uint64, ok bool) {
	n := int(sequence)
	if n < 0 || n >= l.total {
		return
	}
	if !ok {
		l.refused.Add(1)
		return
	}
	if set(l.acked, n) {
		return
	}
	l.answered.Add(1)
	if n >= l.warm {
		l.measuredAnswers.Add(1)
		l.acks[p.index].add(time.Since(l.due(n)))
	}
}

// tick is how often the sender looks what is due. What is due within one tick
// on one connection leaves in one write, as it would from a busy client.
const tick = time.Millisecond

// send sends every message when it is due, whether or not the region keeps up.
// measured is called when the warm-up is over.
func (l *load) send(ctx context.Context, measured func()) error {
	req := &v1.SendRequest{Body: &v1.Body{Kind: &v1.Body_Text{Text: l.text}}}
	var id []byte
	var touched []*person
	for n := 0; n < l.total; {
		time.Sleep(max(tick, time.Until(l.due(n))))
		if ctx.Err() != nil {
			return ctx.Err()
		}
		due := min(l.total, 1+int(time.Since(l.start)/l.interval))
		for ; n < due; n++ {
			if n == l.warm {
				measured()
			}
			p := l.sender(n)
			id = appendID(id[:0], l.run, uint64(n))
			req.To, req.ClientMessageId = uint64(l.to(n)), string(id)
			b, err := wire.AppendMessage(p.out, wire.Send, 0, uint64(n), req)
			if err != nil {
				return err
			}
			if len(p.out) == 0 {
				touched = append(touched, p)
			}
			p.out = b
			l.sent.Add(1)
		}
		for _, p := range touched {
			if p.flush() != nil {
				l.unsendable.Add(1)
			}
		}
		touched = touched[:0]
	}
	return nil
}

// patience is how long what is under way may take when nothing is sent any more,
// and what is asked for without being measured.
const patience = 20 * time.Second

// settle waits until everything that was taken has arrived.
func (l *load) settle(ctx context.Context) error {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if l.answered.Load()+l.refused.Load() >= l.sent.Load() && l.delivered.Load() >= l.answered.Load()*int64(l.fan()) {
			return nil
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// missing has everybody who lacks a message sync, and returns how many
// deliveries are found that way and how many are lost for good.
func (l *load) missing(ctx context.Context) (synced, lost int, err error) {
	wanting := map[*person]bool{}
	each := func(f func(*person, bool)) {
		for n := range l.total {
			if isSet(l.acked, n) {
				l.recipients(n, func(p *person, slot int) { f(p, isSet(l.seen, n*l.slots()+slot)) })
			}
		}
	}
	before := 0
	each(func(p *person, there bool) {
		if !there {
			wanting[p] = true
			before++
		}
	})
	for p := range wanting {
		if err := l.sync(ctx, p); err != nil {
			return 0, before, err
		}
	}
	each(func(_ *person, there bool) {
		if !there {
			lost++
		}
	})
	return before - lost, lost, nil
}

// sync reads a whole inbox.
func (l *load) sync(ctx context.Context, p *person) error {
	var snapshot []byte
	for {
		r := new(v1.SyncResponse)
		if err := p.call(ctx, wire.Sync, &v1.SyncRequest{Snapshot: snapshot}, r); err != nil {
			return fmt.Errorf("user %d cannot sync: %w", p.UIN, err)
		}
		for _, m := range r.Messages {
			if run, n, ok := parseID(m.ClientMessageId); ok && run == l.run && n < uint64(l.total) && m.Sender != uint64(p.UIN) {
				l.arrived(p, int(n), false)
			}
		}
		if snapshot = r.Snapshot; !r.More {
			return nil
		}
	}
}

// relay lets one connection serve several loads, one after the other.
type relay struct {
	mu sync.RWMutex
	l  *load
}

func (r *relay) to(l *load) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.l = l
}

func (r *relay) pushed(p *person, body []byte) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.l != nil {
		r.l.pushed(p, body)
	}
}

func (r *relay) answered(p *person, sequence uint64, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.l != nil {
		r.l.answeredTo(p, sequence, ok)
	}
}
