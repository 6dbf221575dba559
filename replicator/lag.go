package replicator

import (
	"cmp"
	"slices"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// State says how the replay of a stream stands.
type State string

// The states, from best to worst.
const (
	StateLive    State = "live"    // applied to the head, or on the way
	StateBehind  State = "behind"  // progressing, but over a few seconds late
	StatePaused  State = "paused"  // an operator holds it
	StateUnknown State = "unknown" // the origin has not told its heads lately
	StateStalled State = "stalled" // no progress although there is something to apply; tried again by itself
	// StateUnreadable: the origin's journal has a batch of a format that this version
	// does not read. Nothing behind it can be applied, or the history would have a
	// hole; it goes on once this region is upgraded.
	StateUnreadable State = "unreadable"
	StateDiffers    State = "differs"   // follows, but rows here are not the origin's: needs a repair
	StateBootstrap  State = "bootstrap" // the origin trimmed what is missing here, or its journal never had it
	StateDiverged   State = "diverged"  // the histories differ: halted, needs a person
)

var severity = map[State]int{StateLive: 0, StateBehind: 1, StatePaused: 2, StateUnknown: 3, StateStalled: 4, StateUnreadable: 5, StateDiffers: 6, StateBootstrap: 7, StateDiverged: 8}

const (
	// headsEvery is how often an origin is asked for its heads: the resolution
	// of lag, and how long a queue that lost its end goes unnoticed.
	headsEvery = time.Second

	// behindAfter is the lag above which a stream counts as behind.
	behindAfter = 5 * time.Second

	// maxSamples bounds the samples of a cursor. Older ones go first, which can
	// only make lag look longer.
	maxSamples = 32
)

// Lag is how far this region is behind one stream of one origin, over all
// partitions.
//
// It never says less than the truth as of the last answer of the origin, and
// Seconds not even as of now: Records is the origin's head, minus what had been
// applied here before the head was asked for. Seconds is the age, by this
// region's own clock, of the youngest question to whose answer everything has
// been applied: all records the origin had at that moment are here. It is
// therefore between 0 and about a second when all is well, and grows when the
// origin does not answer, because nobody then knows what it has written.
// Records counts sequences, of which shared and command streams carry only
// some.
type Lag struct {
	Origin  region.ID      `json:"origin"`
	Stream  journal.Stream `json:"stream"`
	Records uint64         `json:"records"` // sum over partitions
	Seconds float64        `json:"seconds"` // of the worst partition
	State   State          `json:"state"`   // of the worst partition
	Reason  string         `json:"reason,omitempty"`
	Unheard bool           `json:"unheard,omitempty"` // nothing was ever applied here, and since the start the origin has not told whether there is anything

	Batches     uint64 `json:"batches"`     // applied since start
	Duplicates  uint64 `json:"duplicates"`  // messages that were had before
	GapFills    uint64 `json:"gapFills"`    // answers of the origin's journal that were needed
	Quarantined uint64 `json:"quarantined"` // messages that were not the origin's batches
	Mismatches  uint64 `json:"mismatches"`  // rows or watermarks that differ from the origin
	Newer       uint64 `json:"newer"`       // records of a newer version, which had no effect here

	Partitions []PartitionLag `json:"partitions"`
}

// PartitionLag is the lag of one partition.
type PartitionLag struct {
	Partition region.Partition `json:"partition"`
	Position  uint64           `json:"position"` // last sequence applied
	Head      uint64           `json:"head"`     // last sequence the origin is known to have in the stream
	Records   uint64           `json:"records"`
	Seconds   float64          `json:"seconds"`
	State     State            `json:"state"`
	Reason    string           `json:"reason,omitempty"`
	Asked     time.Time        `json:"asked,omitzero"` // when the origin was asked for the last answer it gave; zero: it gave none since the start

	unheard bool
}

// progress is what a cursor shows of itself.
type progress struct {
	state   State
	reason  string
	differs string // how the rows are known to be other than the origin's; "" when they are not
	applied uint64
	chain   journal.Sum // at applied
	known   uint64      // the origin's head of the stream, as last told

	records uint64    // lag as of the last answer
	asked   time.Time // when the last answer was asked for
	fresh   time.Time // everything the origin had then has been applied
	samples []sample  // later answers, not reached yet, oldest first

	batches, duplicates, gapFills, quarantined, mismatches, opaque uint64

	rejected []Rejected // the newest of them, oldest first
}

// sample says that the origin's stream ended at last, at some time after sent.
type sample struct {
	sent time.Time
	last uint64
}

func (p *progress) begin(seq uint64) {
	p.state, p.reason = StateLive, ""
	p.applied = seq
	p.samples = p.samples[:0]
}

// reach notes that everything up to seq is applied; missing says that records
// after it are known to be missing.
func (p *progress) reach(seq uint64, missing bool) {
	p.applied = seq
	n := 0
	for n < len(p.samples) && p.samples[n].last <= seq {
		p.fresh = p.samples[n].sent
		n++
	}
	p.samples = slices.Delete(p.samples, 0, n)
	if !missing && p.state != StateDiverged {
		p.state, p.reason = StateLive, ""
	}
}

// learn notes an answer, and says whether there is something to apply.
func (p *progress) learn(sent time.Time, before, last uint64) bool {
	p.asked, p.known = sent, last
	p.records = last - min(last, before)
	if last <= p.applied {
		p.samples = p.samples[:0]
		p.fresh = sent
		return false
	}
	if len(p.samples) == maxSamples {
		p.samples = slices.Delete(p.samples, 0, 1)
	}
	p.samples = append(p.samples, sample{sent, last})
	return true
}

// show returns what people see. start is when the replay began: before the
// first answer, nothing is known since then.
func (p *progress) show(part region.Partition, now, start time.Time, paused bool) PartitionLag {
	l := PartitionLag{Partition: part, Position: p.applied, Head: max(p.known, p.applied), Records: p.records, State: p.state, Reason: p.reason, Asked: p.asked,
		unheard: p.applied == 0 && p.asked.IsZero()}
	fresh := p.fresh
	if fresh.IsZero() {
		fresh = start
	}
	l.Seconds = now.Sub(fresh).Seconds()
	asked := p.asked
	if asked.IsZero() {
		asked = start
	}
	switch {
	case p.differs != "" && severity[l.State] < severity[StateDiffers]:
		l.State, l.Reason = StateDiffers, p.differs
	case l.State != StateLive:
	case paused:
		l.State, l.Reason = StatePaused, "paused by an operator"
	case now.Sub(asked) > behindAfter:
		l.State, l.Reason = StateUnknown, "the origin has not told where its journal stands"
	case now.Sub(fresh) > behindAfter:
		l.State = StateBehind
	}
	return l
}

// add joins a partition's lag to that of its stream.
func (l *Lag) add(p PartitionLag) {
	l.Partitions = append(l.Partitions, p)
	l.Records += p.Records
	l.Seconds = max(l.Seconds, p.Seconds)
	l.Unheard = l.Unheard && p.unheard
	if l.State == "" || severity[p.State] > severity[l.State] {
		l.State, l.Reason = p.State, p.Reason
		if p.Reason != "" {
			l.Reason = "partition " + u64(uint64(p.Partition)) + ": " + p.Reason
		}
	}
}

func sortLags(lags []Lag) {
	slices.SortFunc(lags, func(a, b Lag) int {
		return cmp.Or(cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Stream, b.Stream))
	})
}
