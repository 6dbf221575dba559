package replicator

import "time"

const (
	// groupPatience is how long a queue group may refuse before the next one is
	// written to: longer than a broker's death takes to be noticed and its
	// partitions to find new leaders, so that this costs no change.
	groupPatience = 5 * time.Second

	// groupReturn is after how long the first group is tried again. When it still
	// fails the time doubles, up to groupReturnMax: each try halts a partition
	// for one request.
	groupReturn    = time.Minute
	groupReturnMax = 10 * time.Minute
)

// groupChoice decides which of a region's queue groups a partition is written
// to: a pure step machine that reads no clock. The first group is preferred. One
// that fails for patience is left for the next, round and round; from any other
// one the first is tried again after a while, and left at once when it fails.
type groupChoice struct {
	groups   int
	patience time.Duration
	again    time.Duration // from another group to a try of the first

	now     int       // the group that is written to
	since   time.Time // when it began to fail; zero while it does not
	back    int       // where to go when the try fails
	trying  bool      // the first, from back
	home    time.Time // when to try the first
	waiting time.Duration
}

// failed takes that the group refused, and says whether another one is next.
func (c *groupChoice) failed(at time.Time) bool {
	switch {
	case c.groups < 2:
		return false
	case c.trying:
		c.waiting = min(2*c.waiting, groupReturnMax)
		c.move(c.back, at)
		return true
	case c.since.IsZero():
		c.since = at
		return false
	case at.Sub(c.since) < c.patience:
		return false
	}
	if c.now == 0 {
		c.waiting = c.again
	}
	c.move((c.now+1)%c.groups, at)
	return true
}

// worked takes that the group took what it was given, and says whether the first
// is to be tried next.
func (c *groupChoice) worked(at time.Time) bool {
	c.since, c.trying = time.Time{}, false
	if c.now == 0 || at.Before(c.home) {
		return false
	}
	back := c.now
	c.move(0, at)
	c.back, c.trying = back, true
	return true
}

func (c *groupChoice) move(to int, at time.Time) {
	c.now, c.since, c.trying = to, time.Time{}, false
	c.home = at.Add(c.waiting)
}
