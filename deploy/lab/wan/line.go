package wan

import "time"

// Shape is what one direction of a line does to packets.
type Shape struct {
	Delay  time.Duration // of each packet
	Jitter time.Duration // at most so much more, evenly distributed; never out of order
	Loss   float64       // share of packets that vanish, 0 to 1
	Rate   int64         // bits per second; 0 is unlimited
	Cut    bool          // nothing passes
}

// queue bounds how long a packet may wait for bandwidth before it is dropped:
// long enough for TCP to fill the line, short enough to be felt as loss.
const queue = 300 * time.Millisecond

// line is one direction between two sites. It is a function of what it is told:
// no clock, no goroutine.
type line struct {
	Shape
	free time.Time // when the last bit of the last packet has left
	last time.Time // when the last packet arrives
	cuts uint64    // how often it was cut: packets under way belong to the cut they left in
}

// offer says when a packet of so many bytes that is sent now arrives, or that it
// does not. chance is evenly distributed in [0, 1).
func (l *line) offer(now time.Time, size int, chance func() float64) (arrives time.Time, ok bool) {
	if l.Cut || l.Loss > 0 && chance() < l.Loss {
		return time.Time{}, false
	}
	leaves := now
	if l.Rate > 0 {
		if l.free.After(now) {
			leaves = l.free
		}
		if leaves.Sub(now) > queue {
			return time.Time{}, false
		}
		leaves = leaves.Add(time.Duration(int64(size) * 8 * int64(time.Second) / l.Rate))
		l.free = leaves
	}
	arrives = leaves.Add(l.Delay)
	if l.Jitter > 0 {
		arrives = arrives.Add(time.Duration(chance() * float64(l.Jitter)))
	}
	if arrives.Before(l.last) {
		arrives = l.last
	}
	l.last = arrives
	return arrives, true
}

// set gives the line another shape.
func (l *line) set(s Shape) {
	if s.Cut && !l.Cut {
		l.cuts++
		l.free, l.last = time.Time{}, time.Time{} // nothing is under way any more
	}
	l.Shape = s
}
