package pebble

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/homing-im/homing/ids"
	"github.com/homing-im/homing/region"
)

// handleRecord is the value of a handle: who has it, for ever.
type handleRecord struct {
	Owner region.UIN `json:"owner"`
}

// ownerRecord is the value of an owner: every handle it ever claimed, the
// primary one last. Never empty, never longer than ids.MaxHandles.
type ownerRecord struct {
	Handles []ids.Handle `json:"handles"`
}

func (r *ownerRecord) primary() ids.Handle { return r.Handles[len(r.Handles)-1] }

// rangeRecord is the value of a range's first UIN, and of the key it was
// allotted under.
type rangeRecord struct {
	First  region.UIN `json:"first"`
	Last   region.UIN `json:"last"`
	Home   region.ID  `json:"home"`
	Region region.ID  `json:"region"`
	Key    string     `json:"key"`
}

func (r *rangeRecord) is(a ids.Allotment) bool {
	return r.Home == a.Home && uint64(r.Last-r.First)+1 == uint64(a.N)
}

func handleKey(h ids.Handle) []byte { return append([]byte{'h'}, h...) }

func ownerKey(u region.UIN) []byte { return binary.BigEndian.AppendUint64([]byte{'o'}, uint64(u)) }

func rangeKey(first region.UIN) []byte {
	return binary.BigEndian.AppendUint64([]byte{'r'}, uint64(first))
}

// keyKey ends the region with a byte no region ID contains.
func keyKey(r region.ID, key string) []byte {
	return append(append(append([]byte{'k'}, r...), 0), key...)
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil { // strings and numbers only: cannot fail
		panic(err)
	}
	return b
}

// decode reads a record and checks it, so that a damaged one is an error and
// never an answer.
func decode(what string, b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return damaged(what, err)
	}
	switch r := v.(type) {
	case *handleRecord:
		if r.Owner == 0 {
			return damaged(what, fmt.Errorf("no owner"))
		}
	case *ownerRecord:
		if len(r.Handles) == 0 || len(r.Handles) > ids.MaxHandles {
			return damaged(what, fmt.Errorf("%d handles", len(r.Handles)))
		}
	case *rangeRecord:
		if r.First == 0 || r.Last < r.First {
			return damaged(what, fmt.Errorf("range from %d to %d", r.First, r.Last))
		}
	}
	return nil
}

func damaged(what string, err error) error {
	return region.Errorf(region.Internal, "the ids store has a damaged %s record", what).WithHint("stop the node and restore the directory from a backup").WithCause(err)
}
