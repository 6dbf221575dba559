package postgres

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// sum is a digest in hexadecimal, so that an operator can compare what psql
// shows.
type sum journal.Sum

func (s sum) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, s[:]), nil }

func (s *sum) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(s) {
		return fmt.Errorf("a digest of %d characters", len(b))
	}
	_, err := hex.Decode(s[:], b)
	return err
}

// headJSON, sumsJSON: columns heads and sums of homing_partition; its column
// fence is a region.Fence.
type headJSON struct {
	Stream journal.Stream `json:"stream"`
	Last   uint64         `json:"last"`
	Chain  sum            `json:"chain"`
}

type sumsJSON struct {
	Changed    bool   `json:"changed,omitempty"`
	Unsettled  int    `json:"unsettled,omitempty"`
	Shared     sum    `json:"shared"`
	SharedRows uint64 `json:"sharedRows"`
	Own        sum    `json:"own"`
	OwnRows    uint64 `json:"ownRows"`
}

// columns are the parts of a state that have no column each.
type columns struct{ heads, sums, fence, turns string }

func encode(s *partition.State) (columns, error) {
	heads := make([]headJSON, len(s.Heads))
	for i, h := range s.Heads {
		heads[i] = headJSON{h.Stream, h.Last, sum(h.Chain)}
	}
	sums := make(map[region.ID]sumsJSON, len(s.Sums))
	for home, h := range s.Sums {
		sums[home] = sumsJSON{h.Changed, h.Unsettled, sum(h.Shared.Sum), h.Shared.Rows, sum(h.Own.Sum), h.Own.Rows}
	}
	var c columns
	for _, part := range []struct {
		to   *string
		from any
	}{{&c.heads, heads}, {&c.sums, sums}, {&c.fence, s.Fence}, {&c.turns, s.Turns}} {
		b, err := json.Marshal(part.from)
		if err != nil {
			return c, err
		}
		*part.to = string(b)
	}
	return c, nil
}

// decode fills in a state from the columns.
func (c columns) decode(s *partition.State) error {
	var heads []headJSON
	if err := json.Unmarshal([]byte(c.heads), &heads); err != nil {
		return fmt.Errorf("heads: %w", err)
	}
	var sums map[region.ID]sumsJSON
	if err := json.Unmarshal([]byte(c.sums), &sums); err != nil {
		return fmt.Errorf("sums: %w", err)
	}
	if err := json.Unmarshal([]byte(c.fence), &s.Fence); err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	if s.Fence == nil {
		s.Fence = region.Fence{}
	}
	if err := json.Unmarshal([]byte(c.turns), &s.Turns); err != nil {
		return fmt.Errorf("turns: %w", err)
	}
	if s.Turns == nil {
		s.Turns = map[region.ID]store.Turn{}
	}
	for _, h := range heads {
		s.Heads = append(s.Heads, journal.StreamHead{Stream: h.Stream, Last: h.Last, Chain: journal.Sum(h.Chain)})
	}
	for home, h := range sums {
		s.Sums[home] = &partition.Sums{
			Changed: h.Changed, Unsettled: h.Unsettled,
			Shared: partition.Tally{Sum: journal.Sum(h.Shared), Rows: h.SharedRows},
			Own:    partition.Tally{Sum: journal.Sum(h.Own), Rows: h.OwnRows},
		}
	}
	return nil
}
