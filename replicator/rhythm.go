package replicator

import "time"

const (
	// maxUnderWay is how many fetches of one broker are under way at a time. With
	// one, what is written just behind an answer waits for a round trip until the
	// next question is there: over an ocean most of the delay.
	maxUnderWay = 2

	// far is the round trip from which on a second fetch is worth its bytes: of
	// what both may see, some comes twice.
	far = 20 * time.Millisecond
)

// rhythm says when to fetch from a broker: under steady writing its questions
// arrive half a round trip apart. It is a pure step machine that reads no clock.
type rhythm struct {
	under int           // fetches under way
	sent  time.Time     // the newest of them, or of those answered
	trip  time.Duration // about a round trip: the shortest that a fetch with news took; 0 when unknown
}

// next returns when to send a fetch; false when not before an answer is here.
func (r *rhythm) next(now time.Time) (at time.Time, ok bool) {
	switch {
	case r.under == 0:
		return now, true
	case r.under < maxUnderWay && r.trip >= far:
		return r.sent.Add(r.trip / maxUnderWay), true
	}
	return time.Time{}, false
}

// send notes that a fetch is sent now, and returns when the one was that is under
// way, zero when there is none.
func (r *rhythm) send(now time.Time) (before time.Time) {
	if r.under > 0 {
		before = r.sent
	}
	r.under++
	r.sent = now
	return before
}

// answered notes an answer. The trip grows a little with each, so that one that
// got longer is known in the end.
func (r *rhythm) answered(p *polled) {
	r.under--
	if !p.news {
		return
	}
	if r.trip += r.trip / 256; r.trip == 0 || p.took < r.trip {
		r.trip = p.took
	}
}
