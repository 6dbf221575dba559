package replicator

import (
	"context"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// meterGrain is how exactly a meter knows where a number of bytes begins. Finer
// would remember more than it saves.
const meterGrain = 64 << 10

// meter knows how many bytes of a partition's journal there are behind a
// sequence. The zero value has counted nothing.
type meter struct {
	marks []meterMark // ascending; the first is where the journal begins
	next  uint64      // the sequence to be counted next; 0 before the first
	total uint64      // bytes of all that was counted
}

// meterMark says that so many bytes come before a sequence, which begins a batch.
type meterMark struct{ seq, bytes uint64 }

// add counts batches in the order of the journal.
func (m *meter) add(batches []*journal.Batch) {
	for _, b := range batches {
		if n := len(m.marks); n == 0 || m.total-m.marks[n-1].bytes >= meterGrain {
			m.marks = append(m.marks, meterMark{b.First(), m.total})
		}
		m.total += uint64(len(journal.Encode(b)))
		m.next = b.Last() + 1
	}
}

// begin forgets what is before a sequence.
func (m *meter) begin(first uint64) {
	m.next = max(m.next, first)
	n := 0
	for n+1 < len(m.marks) && m.marks[n+1].seq <= first {
		n++
	}
	m.marks = m.marks[n:]
}

// newest returns the oldest sequence from which on there are at most so many
// bytes, to the grain and never more.
func (m *meter) newest(bytes uint64) uint64 {
	for _, k := range m.marks {
		if m.total-k.bytes <= bytes {
			return k.seq
		}
	}
	return m.next
}

// read counts what the journal has and was not counted. It blocks until that is
// read: a pass over what came since the last call.
func (m *meter) read(ctx context.Context, s Source, p region.Partition) error {
	m.begin(s.Head(p).First)
	for {
		batches, err := s.Journal(ctx, p, journal.Full, max(m.next, 1), journalBytes)
		if err != nil || len(batches) == 0 {
			return err
		}
		m.add(batches)
	}
}

// Budgeted says why nothing more may be asked of a home's region: what was asked
// of it and not done fills its budget of the journal. Rows that it misses are
// trimmed past that; what is asked of it never is. It does not block.
//
// Errors: region.Overloaded.
func (r *Replicator) Budgeted(home region.ID) error {
	k := r.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.full[home] {
		return region.Errorf(region.Overloaded, "too much waits for region %s already", home).WithHint("retry when it is back, or another one acts for it")
	}
	return nil
}
