package core

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/wire"
)

// paced is how many users and devices a rate is remembered of. Who is forgotten
// may send a burst again.
const paced = 100_000

// pacer bounds how often each of many keys may do something, with bursts of two
// seconds' worth. It is the virtual scheduling algorithm of ITU-T I.371: one
// instant per key says when its bucket will be full again.
type pacer[K comparable] struct {
	interval time.Duration // between two, on average; 0 is no bound
	burst    time.Duration // how far ahead of the average a key may be

	mu   sync.Mutex
	full *lru.Cache[K, time.Time]
}

func newPacer[K comparable](perSecond int) (*pacer[K], error) {
	full, err := lru.New[K, time.Time](paced)
	p := &pacer[K]{full: full}
	if perSecond > 0 {
		p.interval = time.Second / time.Duration(perSecond)
		p.burst = 2 * time.Second
	}
	return p, err
}

// take is one more of the key's at that time. It returns 0, or when to try again.
func (p *pacer[K]) take(key K, now time.Time) (wait time.Duration) {
	if p.interval == 0 {
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	full, _ := p.full.Get(key)
	full, wait = pace(full, now, p.interval, p.burst)
	p.full.Add(key, full)
	return wait
}

// pace is the step of one key: full is when its bucket is full. One that is
// refused costs nothing.
func pace(full, now time.Time, interval, burst time.Duration) (time.Time, time.Duration) {
	next := full
	if next.Before(now) {
		next = now
	}
	next = next.Add(interval)
	if wait := next.Add(-burst).Sub(now); wait > 0 {
		return full, wait
	}
	return next, 0
}

// deviceKey names a device of a user.
type deviceKey struct {
	user  region.UIN
	keyID [8]byte
}

// paceSend refuses a sender who is too fast, by user and by device.
func (c *Core) paceSend(by Caller) error {
	now := c.o.Clock()
	wait := c.devicePace.take(deviceKey{by.UIN, by.DeviceKeyID}, now)
	who := "device"
	if wait == 0 {
		wait, who = c.userPace.take(by.UIN, now), "user"
	}
	if wait == 0 {
		return nil
	}
	c.m.paced.WithLabelValues(who).Inc()
	return &wire.Error{RetryAfter: wait, Err: region.Errorf(region.Overloaded, "this %s sends too fast", who).
		WithHint("try again in %s, under the same client message ID", wait.Round(time.Millisecond))}
}
