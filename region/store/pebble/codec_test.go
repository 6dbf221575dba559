package pebble

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// Golden bytes: directories have them. A change needs a new layout version.
const (
	goldenState    = "020329d00f020466756c6c28010000000000000000000000000000000474" + "6f2d6127020000000000000000000000000000000102736805030000000000000000000000000000000405000000000000000000000000000000" + "06"
	goldenRow      = "0109020307000000000000000273686261"
	goldenPosition = "0203040000000000000000000000000000000a"
)

func goldens() (*partition.State, *partition.Row, *journal.Position) {
	s := partition.New()
	s.Incarnation, s.First, s.Next, s.UnixMilli = 2, 3, 41, 1000
	s.Heads = []journal.StreamHead{{Stream: journal.Full, Last: 40, Chain: journal.Sum{1}}, {Stream: "to-a", Last: 39, Chain: journal.Sum{2}}}
	s.Sums["sh"] = &partition.Sums{Changed: true, Unsettled: 2, Shared: partition.Tally{Sum: journal.Sum{3}, Rows: 4}, Own: partition.Tally{Sum: journal.Sum{5}, Rows: 6}}
	r := &partition.Row{Version: 9, Epoch: region.Epoch{Moves: 2, Term: region.Term{Counter: 3, Raised: region.ShortHash{7}}}, Deleted: true, Home: "sh", Value: []byte("ba")}
	at := &journal.Position{Origin: "hk", Stream: "shared", Partition: 258, Incarnation: 2, Seq: 3, Chain: journal.Sum{4}, UnixMilli: 5}
	return s, r, at
}

func TestGolden(t *testing.T) {
	s, r, at := goldens()
	for name, c := range map[string]struct {
		want string
		got  []byte
	}{
		"state":    {goldenState, appendState(nil, s)},
		"row":      {goldenRow, append(appendRowHead(nil, r), r.Value...)},
		"position": {goldenPosition, appendPosition(nil, at)},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s is\n%s, want\n%s", name, got, c.want)
		}
	}
	if got, err := decodeState(appendState(nil, s)); err != nil || !reflect.DeepEqual(got, s) {
		t.Errorf("state: %+v, %v", got, err)
	}
	if got, err := decodeRow(append(appendRowHead(nil, r), r.Value...), s); err != nil || got.version != 9 || got.epoch != r.Epoch || !got.deleted || got.home != "sh" || string(got.value) != "ba" {
		t.Errorf("row: %+v, %v", got, err)
	}
	key := keyPosition(at.Partition, partition.Source{Origin: at.Origin, Stream: at.Stream})
	if got, err := decodePosition(key, appendPosition(nil, at)); err != nil || got != *at {
		t.Errorf("position: %+v, %v", got, err)
	}
}

// FuzzDecode gives decoders anything: they answer with an error, or with what
// encodes to something that decodes to the same.
func FuzzDecode(f *testing.F) {
	s, r, at := goldens()
	key := keyPosition(at.Partition, partition.Source{Origin: at.Origin, Stream: at.Stream})
	f.Add(appendState(nil, s), key)
	f.Add(append(appendRowHead(nil, r), r.Value...), key[:3])
	f.Add(appendPosition(nil, at), key)
	f.Fuzz(func(t *testing.T, b, key []byte) {
		if s, err := decodeState(b); err == nil {
			if again, err := decodeState(appendState(nil, s)); err != nil || !reflect.DeepEqual(again, s) {
				t.Errorf("state %+v, %v, want %+v", again, err, s)
			}
		}
		if got, err := decodeRow(b, nil); err == nil {
			row := partition.Row{Version: got.version, Epoch: got.epoch, Deleted: got.deleted, Home: got.home, Value: got.value}
			if again, err := decodeRow(append(appendRowHead(nil, &row), got.value...), nil); err != nil || !same(again, got) {
				t.Errorf("row %+v, %v, want %+v", again, err, got)
			}
		}
		if len(key) == 0 {
			return
		}
		if at, err := decodePosition(key, b); err == nil {
			again, err := decodePosition(keyPosition(at.Partition, partition.Source{Origin: at.Origin, Stream: at.Stream}), appendPosition(nil, &at))
			if err != nil || again != at {
				t.Errorf("position %+v, %v, want %+v", again, err, at)
			}
		}
	})
}

func same(a, b stored) bool {
	return a.version == b.version && a.epoch == b.epoch && a.deleted == b.deleted && a.home == b.home && bytes.Equal(a.value, b.value)
}
