package dump

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"reflect"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// full is a state with something in every field.
func full() *partition.State {
	s := partition.New()
	s.Incarnation, s.First, s.Next, s.UnixMilli = 3, 4, 500, -6
	s.Heads = []journal.StreamHead{{Stream: journal.Full, Last: 499, Chain: journal.Sum{1}}, {Stream: journal.Shared, Last: 8, Chain: journal.Sum{2}}, {Stream: "to-hk", Last: 9}}
	s.Sums["hk"] = &partition.Sums{Changed: true, Shared: partition.Tally{Sum: journal.Sum{3}, Rows: 1 << 40}, Own: partition.Tally{Sum: journal.Sum{4}, Rows: 2}}
	s.Sums["sh"] = &partition.Sums{}
	s.Turns["hk"] = store.Turn{
		Opened: region.Term{Counter: 1, Raised: region.ShortHash{1}}, Handed: region.Term{Counter: 2}, Until: 3, Ended: region.Term{Counter: 4},
		After: journal.Position{Origin: "hk", Stream: journal.Full, Partition: 5, Incarnation: 6, Seq: 7, Chain: journal.Sum{8}, UnixMilli: 9},
	}
	s.Turns["sh"] = store.Turn{}
	s.Fence["sh"] = region.Term{Counter: 7, Raised: region.ShortHash{8}}
	for _, at := range []journal.Position{
		{Origin: "ca", Stream: journal.Full, Partition: 5, Incarnation: 1, Seq: 2, Chain: journal.Sum{9}, UnixMilli: 10},
		{Origin: "ca", Stream: "to-sh", Partition: 5, Incarnation: 1},
	} {
		s.Positions[partition.Source{Origin: at.Origin, Stream: at.Stream}] = at
	}
	return s
}

// TestStateIsWhole fails when somebody gives a state a field that a dump would
// lose.
func TestStateIsWhole(t *testing.T) {
	s := full()
	for v, i := reflect.ValueOf(s).Elem(), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not in the test, and so perhaps not in dumps", v.Type().Field(i).Name)
		}
	}
	d := decoder{data: appendState(nil, s)}
	if got := d.state(5); d.err != nil || len(d.data) > 0 || !reflect.DeepEqual(got, s) {
		t.Errorf("%+v, %v, want\n%+v", got, d.err, s)
	}
}

// What is read is spelled as it was read, or refused.
func FuzzState(f *testing.F) {
	f.Add(appendState(nil, full()))
	f.Add(appendState(nil, partition.New()))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{data: b}
		s := d.state(5)
		if d.err == nil && len(d.data) == 0 && !bytes.Equal(appendState(nil, s), b) {
			t.Fatalf("%x is read, and spelled %x", b, appendState(nil, s))
		}
	})
}

func FuzzRow(f *testing.F) {
	f.Add(appendRow(nil, 1, 2, []byte("k"), &partition.Row{Version: 3, Home: "sh", Value: []byte("v"), Epoch: region.Epoch{Moves: 4, Term: region.Term{Counter: 5}}}))
	f.Add(appendRow(nil, 1<<63, 255, nil, &partition.Row{Version: 1, Home: "sh", Deleted: true}))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{data: b}
		owner, table, key, r := d.row()
		if d.err == nil && len(d.data) == 0 && !bytes.Equal(appendRow(nil, owner, table, key, &r), b) {
			t.Fatalf("%x is read, and spelled otherwise", b)
		}
	})
}

// FuzzRead gives a reader blocks whose checksums hold.
func FuzzRead(f *testing.F) {
	f.Add([]byte{kindHeader, 6, 2, 's', 'h', 1, 0, 0}, []byte{kindPartition})
	f.Add([]byte{kindRows, 1, 0}, []byte{kindJournal, 1, 1})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		file := []byte(magic)
		for _, b := range [][]byte{one, two, appendState([]byte{kindPartition, 0}, partition.New()), one, two} {
			if len(b) == 0 {
				continue
			}
			block := append(binary.BigEndian.AppendUint32([]byte{b[0]}, uint32(len(b)-1)), b[1:]...)
			file = append(file, binary.BigEndian.AppendUint32(block, crc32.Checksum(block, castagnoli))...)
		}
		if r, err := Open(bytes.NewReader(file)); err == nil {
			if _, err := r.CopyTo(t.Context(), nil); err == nil {
				t.Fatalf("%x is a whole dump", file)
			}
		}
	})
}
