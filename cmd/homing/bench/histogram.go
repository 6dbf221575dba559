package bench

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets a sixteenth wide.
type histogram struct {
	n       uint64
	buckets [40 * 16]uint32
}

func (h *histogram) add(d time.Duration) {
	n := uint64(max(d, 16))
	shift := bits.Len64(n) - 5 // keeps five bits, the highest of which is set
	h.buckets[min(shift*16+int(n>>shift)-16, len(h.buckets)-1)]++
	h.n++
}

func (h *histogram) merge(o *histogram) {
	for i := range h.buckets {
		h.buckets[i] += o.buckets[i]
	}
	h.n += o.n
}

// quantile returns the upper end of the bucket that holds the quantile, in
// milliseconds.
func (h *histogram) quantile(q float64) float64 {
	left := uint64(q * float64(h.n))
	for i, n := range h.buckets {
		if left < uint64(n) {
			return float64(uint64(i%16+17)<<(i/16)) / 1e6
		}
		left -= uint64(n)
	}
	return 0
}
