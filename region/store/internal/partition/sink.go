package partition

import (
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// Sink takes all that a partition is, at one position of its journal: first its
// state, then its rows in any order and none twice, then the batches of its
// journal in order, then those kept of other regions' full streams, each as
// package journal spells it. Arguments belong to the
// caller and are valid during the call only. After an error nothing is called any
// more.
type Sink interface {
	State(id region.Partition, s *State) error
	Row(owner region.UIN, t journal.Table, key []byte, r *Row) error // an engine's Sink is given the Sum too
	Batch(first uint64, data []byte) error
	Copy(data []byte) error
}
