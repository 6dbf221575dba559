package replicator

import (
	"bytes"
	"strconv"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// spot names one stream of one partition of one origin's journal.
type spot struct {
	origin    region.ID
	stream    journal.Stream
	partition region.Partition
}

func (s spot) log() TopicPartition {
	return TopicPartition{Topic: journal.Topic(s.origin, s.stream), Partition: s.partition}
}

// message spells a batch, as its stream carries it, for the queue.
func message(filtered *journal.Batch) Message {
	return Message{Key: journal.QueueKey(filtered), Value: journal.Encode(filtered)}
}

// decode reads a message of the queue as a batch of the spot. Whoever can write
// to the queue can write anything; what is not exactly what the origin's
// shipper would write at this spot is an error.
func decode(s spot, m Message) (*journal.Batch, error) {
	b, err := journal.Decode(m.Value)
	if err != nil {
		return nil, err
	}
	if err := s.owns(b); err != nil {
		return nil, err
	}
	if !bytes.Equal(m.Key, journal.QueueKey(b)) {
		return nil, region.Errorf(region.BadInput, "the key %.40q is not that of a batch of %d to %d", m.Key, b.First(), b.Last())
	}
	return b, nil
}

// owns reports why the batch does not belong at the spot, or nil.
func (s spot) owns(b *journal.Batch) error {
	switch {
	case b.Origin != s.origin || b.Partition != s.partition:
		return region.Errorf(region.BadInput, "a batch of %s/%d among those of %s/%d", b.Origin, b.Partition, s.origin, s.partition)
	case len(b.Records) == 0:
		return region.Errorf(region.BadInput, "a batch without records")
	case len(b.Links) == 0 || b.Links[0].Stream != s.stream, len(b.Links) > 1 && s.stream != journal.Full:
		return region.Errorf(region.BadInput, "a batch that is not of stream %s", s.stream)
	}
	return nil
}

// lastOf reads the last sequence from a message's key.
func lastOf(key []byte) (uint64, bool) {
	a, b, ok := bytes.Cut(key, []byte("-"))
	if !ok {
		return 0, false
	}
	first, err1 := strconv.ParseUint(string(a), 10, 64)
	last, err2 := strconv.ParseUint(string(b), 10, 64)
	return last, err1 == nil && err2 == nil && first > 0 && first <= last
}
