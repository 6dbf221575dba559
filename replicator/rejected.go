package replicator

import (
	"cmp"
	"slices"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// maxRejected bounds what is remembered of rejected messages, per stream and
// partition: a queue that somebody writes garbage into may have any number.
const maxRejected = 8

// Rejected is a message of another region's queue that is not the batch which that
// region wrote there. It was not applied, and held up nobody: the origin's journal
// was asked in its place.
type Rejected struct {
	Origin    region.ID        `json:"origin"`
	Stream    journal.Stream   `json:"stream"`
	Partition region.Partition `json:"partition"`
	Offset    int64            `json:"offset"`
	Key       []byte           `json:"key"`  // the beginning of it
	Size      int              `json:"size"` // of the value, in bytes
	Reason    string           `json:"reason"`
	At        time.Time        `json:"at"`
}

// reject counts and remembers a message.
func (c *cursor) reject(m *Message, reason string) {
	c.metrics.quarantined.WithLabelValues(c.labels()...).Inc()
	r := Rejected{Origin: c.origin, Stream: c.stream, Partition: c.partition, Offset: m.Offset,
		Key: slices.Clone(m.Key[:min(len(m.Key), 64)]), Size: len(m.Value), Reason: reason, At: c.now()}
	c.count(func(p *progress) {
		p.quarantined++
		if len(p.rejected) == maxRejected {
			p.rejected = slices.Delete(p.rejected, 0, 1)
		}
		p.rejected = append(p.rejected, r)
	})
}

// Rejected returns the newest rejected messages of every stream and partition
// since the replay began, by time. It does not block.
func (r *Replay) Rejected() []Rejected {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []Rejected{}
	for _, o := range r.origins {
		for _, c := range o.cursors {
			c.mu.Lock()
			out = append(out, c.progress.rejected...)
			c.mu.Unlock()
		}
	}
	slices.SortFunc(out, func(a, b Rejected) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Origin, b.Origin), cmp.Compare(a.Offset, b.Offset))
	})
	return out
}
