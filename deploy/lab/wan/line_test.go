package wan

import (
	"testing"
	"time"
)

// Timelines of one direction: when packets are sent, and when they arrive.
func TestLine(t *testing.T) {
	const ms = time.Millisecond
	type packet struct {
		at, size int // milliseconds, bytes
		arrives  int // milliseconds; -1: lost
	}
	for _, c := range []struct {
		what    string
		shape   Shape
		chance  []float64 // one after the other, again and again
		packets []packet
	}{
		{"delay", Shape{Delay: 80 * ms}, nil, []packet{{0, 1500, 80}, {1, 40, 81}}},
		{"cut", Shape{Delay: 80 * ms, Cut: true}, nil, []packet{{0, 40, -1}}},
		{"loss", Shape{Loss: 0.5}, []float64{0.49, 0.5}, []packet{{0, 40, -1}, {0, 40, 0}, {0, 40, -1}}},
		{"no loss", Shape{}, []float64{0}, []packet{{0, 40, 0}}},
		{"jitter never reorders", Shape{Delay: 10 * ms, Jitter: 20 * ms}, []float64{0.5, 0}, []packet{{0, 40, 20}, {1, 40, 20}, {30, 40, 50}}},
		// 1000 bytes at 1 Mbit/s take 8 ms on the line.
		{"bandwidth", Shape{Delay: 10 * ms, Rate: 1e6}, nil, []packet{{0, 1000, 18}, {0, 1000, 26}, {100, 1000, 118}}},
		// At 8 kbit/s a second each: the third would wait for longer than the queue is.
		{"a full queue", Shape{Rate: 8e3}, nil, []packet{{0, 250, 250}, {0, 250, 500}, {0, 250, -1}, {300, 250, 750}}},
	} {
		l := line{Shape: c.shape}
		begin, i := time.Unix(1_700_000_000, 0), 0
		chance := func() float64 {
			i++
			return c.chance[(i-1)%len(c.chance)]
		}
		for n, p := range c.packets {
			got := -1
			if at, ok := l.offer(begin.Add(time.Duration(p.at)*ms), p.size, chance); ok {
				got = int(at.Sub(begin) / ms)
			}
			if got != p.arrives {
				t.Errorf("%s: packet %d arrives at %d ms, want %d", c.what, n, got, p.arrives)
			}
		}
	}
}
