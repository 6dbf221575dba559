package traffic

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/homing-im/homing/region"
)

// History is what happened to all people, in the order in which it was told. All
// methods are safe for concurrent use.
type History struct {
	mu      sync.Mutex
	events  []Event
	changed chan struct{} // closed and replaced at every event
	acked   int
}

// NewHistory returns an empty one.
func NewHistory() *History { return &History{changed: make(chan struct{})} }

// Add appends an event.
func (h *History) Add(e Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
	if e.Kind == Acked {
		h.acked++
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// Read adds every event of r until it ends.
func (h *History) Read(r io.Reader) error {
	for d := json.NewDecoder(r); ; {
		var e Event
		if err := d.Decode(&e); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading a history: %w", err)
		}
		h.Add(e)
	}
}

// Changed is closed when the next event is added.
func (h *History) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// Acked returns how many messages were acknowledged.
func (h *History) Acked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked
}

// Count returns how many events keep says yes to.
func (h *History) Count(keep func(Event) bool) int {
	n := 0
	h.each(func(e Event) {
		if keep(e) {
			n++
		}
	})
	return n
}

func (h *History) each(f func(Event)) {
	h.mu.Lock()
	events := h.events // appended to only
	h.mu.Unlock()
	for _, e := range events {
		f(e)
	}
}

// Users returns everybody with their homes.
func (h *History) Users() map[region.UIN]region.ID {
	users := map[region.UIN]region.ID{}
	h.each(func(e Event) {
		if e.Kind == Joined {
			users[e.User] = e.Home
		}
	})
	return users
}

// Acting returns, for each user of a home whose message a region acknowledged
// after a moment, how long after it that first was.
func (h *History) Acting(home, at region.ID, after time.Time) map[region.UIN]time.Duration {
	first := map[region.UIN]time.Duration{}
	h.each(func(e Event) {
		if e.Kind == Acked && e.Home == home && e.Region == at && e.At.After(after) {
			if _, known := first[e.User]; !known {
				first[e.User] = e.At.Sub(after)
			}
		}
	})
	return first
}

// Slowest returns how long the slowest acknowledged message of a home's users
// took, of those that were acknowledged after a moment.
func (h *History) Slowest(home region.ID, after time.Time) time.Duration {
	var slowest time.Duration
	h.each(func(e Event) {
		if e.Kind == Acked && e.Home == home && e.At.After(after) {
			slowest = max(slowest, e.Took)
		}
	})
	return slowest
}

// Percentile returns the smallest value that a share of values does not exceed
// (nearest rank); 0 of none.
func Percentile[K comparable](values map[K]time.Duration, share float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(maps.Values(values))
	rank := int(math.Ceil(share * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// Verdict is what is wrong with histories: nothing, when every number but Acked
// and Excused is 0.
type Verdict struct {
	Acked   int // messages
	Missing int // acknowledged, and not in an inbox where it belongs
	Twice   int // more than once in an inbox
	Gaps    int // inboxes whose numbers are not dense, or that could not be read
	Missed  int // messages in an inbox that its owner's snapshots never brought
	Refused int // messages refused for good
	Excused int // missing, and in an open range of a report

	Complaints []string // the first few, in words
}

// Good says whether the service kept its word.
func (v Verdict) Good() bool { return v.Missing+v.Twice+v.Gaps+v.Missed+v.Refused == 0 }

// String is the numbers, without those that differ from run to run.
func (v Verdict) String() string {
	return fmt.Sprintf("%d missing, %d twice, %d gaps, %d missed by snapshots, %d refused", v.Missing, v.Twice, v.Gaps, v.Missed, v.Refused)
}

const maxComplaints = 5

func (v *Verdict) complain(n *int, format string, args ...any) {
	*n++
	if len(v.Complaints) < maxComplaints {
		v.Complaints = append(v.Complaints, fmt.Sprintf(format, args...))
	}
}

// Judge compares what was acknowledged with the inboxes of a round. Excused says
// whether an acknowledged message may be missing in a user's inbox, because a
// report has an open range for it; nil is never.
func (h *History) Judge(round int, excused func(message Event, in region.UIN) bool) Verdict {
	var v Verdict
	inbox := map[region.UIN]map[string]int{}
	pulled := map[region.UIN]map[string]bool{}
	var acked []Event
	h.each(func(e Event) {
		switch e.Kind {
		case Acked:
			acked = append(acked, e)
		case Refused:
			v.complain(&v.Refused, "a message of %d to %d was refused: %s", e.User, e.To, e.Text)
		case Pulled:
			if pulled[e.User] == nil {
				pulled[e.User] = map[string]bool{}
			}
			for _, id := range e.IDs {
				pulled[e.User][id] = true
			}
		case Inbox:
			if e.Round != round {
				return
			}
			inbox[e.User] = map[string]int{}
			for _, id := range e.IDs {
				inbox[e.User][id]++
			}
			if e.Text != "" {
				v.complain(&v.Gaps, "the inbox of %d: %s", e.User, e.Text)
			}
		}
	})
	v.Acked = len(acked)
	for _, m := range acked {
		for _, u := range []region.UIN{m.User, m.To} {
			switch {
			case inbox[u][m.ID] > 0:
			case excused != nil && excused(m, u):
				v.Excused++
			default:
				v.complain(&v.Missing, "%s from %d to %d, acknowledged by %s at %s, is not in the inbox of %d",
					m.ID, m.User, m.To, cmp.Or(m.Region, "?"), m.At.Format("15:04:05.000"), u)
			}
		}
	}
	for _, u := range slices.Sorted(maps.Keys(inbox)) {
		for id, n := range inbox[u] {
			if n > 1 {
				v.complain(&v.Twice, "%s is %d times in the inbox of %d", id, n, u)
			}
			if !pulled[u][id] {
				v.complain(&v.Missed, "%s is in the inbox of %d, and no snapshot brought it", id, u)
			}
		}
	}
	for u := range h.Users() {
		if inbox[u] == nil {
			v.complain(&v.Gaps, "the inbox of %d was not read", u)
		}
	}
	return v
}
