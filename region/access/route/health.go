package route

import "time"

const (
	// ejectAfter is how many failures in a row eject an instance. One is a
	// request's bad luck; with many more, clients feel what the router knows.
	ejectAfter = 3
	// probeFirst and probeLast bound the pause before an ejected instance is
	// probed again; it doubles.
	probeFirst = 250 * time.Millisecond
	probeLast  = 8 * time.Second
)

// health is what is known of one instance: a pure state, stepped by outcomes.
type health struct {
	failures int // in a row
	ejected  bool
	pause    time.Duration
	probe    time.Time // when the next probe is due; of an ejected one
}

// succeeded is stepped by every answer, whatever it says.
func (h *health) succeeded() { *h = health{} }

// failed is stepped by every request that got no answer, and every probe that
// failed. It says whether the instance was ejected by it.
func (h *health) failed(now time.Time) bool {
	h.failures++
	if h.ejected {
		h.pause = min(2*h.pause, probeLast)
		h.probe = now.Add(h.pause)
		return false
	}
	if h.failures < ejectAfter {
		return false
	}
	h.ejected, h.pause = true, probeFirst
	h.probe = now.Add(h.pause)
	return true
}

// due says whether the instance is to be probed now.
func (h *health) due(now time.Time) bool { return h.ejected && !now.Before(h.probe) }
