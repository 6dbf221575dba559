package replicator

import (
	"slices"
	"time"
)

const (
	// minUnderWay and maxUnderWay are how many fetches of one broker are under way at
	// a time. With one, what is written just behind an answer waits for a round trip
	// until the next question is there: over an ocean most of the delay. With four it
	// waits for a quarter of one.
	minUnderWay = 2
	maxUnderWay = 4

	// worthBytes is what a fetch beyond the second has to bring. A question names
	// every partition, and so does its answer: with little to bring, that and what
	// comes twice would be most of the bytes.
	worthBytes = 16 << 10

	// far is the round trip from which on more than one fetch is worth its bytes: of
	// what several may see, some comes twice.
	far = 20 * time.Millisecond
)

// rhythm says when to fetch from a broker, and takes the answers in the order of
// the questions: under steady writing the questions arrive evenly within a round
// trip. It is a pure step machine that reads no clock.
type rhythm struct {
	under  []int         // numbers of the fetches under way, ascending
	count  int           // of fetches so far
	sent   time.Time     // the newest of them
	trip   time.Duration // about a round trip: the shortest that a fetch with news took; 0 when unknown
	brings float64       // bytes that were not had before, in a round trip, lately
	early  []polled      // by number: what begins behind the answer to a fetch under way
}

// next returns when to send a fetch; false when not before an answer is here.
func (r *rhythm) next(now time.Time) (at time.Time, ok bool) {
	switch {
	case len(r.under) == 0:
		return now, true
	case len(r.under) < r.most() && r.trip >= far:
		return r.sent.Add(r.trip / time.Duration(r.most())), true
	}
	return time.Time{}, false
}

// most is how many fetches may be under way.
func (r *rhythm) most() int {
	return max(minUnderWay, min(maxUnderWay, int(r.brings/worthBytes)))
}

// send notes that a fetch is sent now. It returns the number of that, and when
// the newest of those under way was sent, zero when there is none.
func (r *rhythm) send(now time.Time) (number int, before time.Time) {
	if len(r.under) > 0 {
		before = r.sent
	}
	r.count++
	r.under = append(r.under, r.count)
	r.sent = now
	return r.count, before
}

// answered takes the answer to a fetch, hands the feeds what is theirs, and keeps
// for later what has overtaken the answer that it continues. The trip grows a
// little with each, so that one that got longer is known in the end.
func (r *rhythm) answered(p polled) {
	r.under = slices.DeleteFunc(r.under, func(n int) bool { return n == p.number })
	if p.news {
		if r.trip += r.trip / 256; r.trip == 0 || p.took < r.trip {
			r.trip = p.took
		}
	}
	at, _ := slices.BinarySearchFunc(r.early, p.number, func(e polled, n int) int { return e.number - n })
	r.early = slices.Insert(r.early, at, p)
	fresh := 0
	for i := range r.early {
		e := &r.early[i]
		overtook := len(r.under) > 0 && r.under[0] < e.number
		e.answers = slices.DeleteFunc(e.answers, func(a answered) bool {
			n, done := a.feed.hand(a.question, a.Fetched, overtook)
			fresh += n
			return done
		})
	}
	r.brings += (float64(fresh*r.most()) - r.brings) / 8
	r.early = slices.DeleteFunc(r.early, func(e polled) bool { return len(e.answers) == 0 })
}
