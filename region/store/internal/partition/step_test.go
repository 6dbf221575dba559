package partition

import (
	"errors"
	"reflect"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

var errBroken = errors.New("broken")

// breaking is an engine that keeps rows in memory and fails its call number at.
type breaking struct {
	t     *testing.T
	rows  map[string]int // place
	found []Found
	calls int
	at    int // 0 for never
	begun bool
}

func (e *breaking) call() error {
	e.calls++
	if e.calls == e.at {
		return errBroken
	}
	return nil
}

func (e *breaking) Find(_ region.UIN, t journal.Table, row []byte) (Found, error) {
	k := string(append([]byte{byte(t)}, row...))
	at, ok := e.rows[k]
	if !ok {
		at = len(e.found)
		e.rows[k], e.found = at, append(e.found, Found{Place: at})
	}
	return e.found[at], e.call()
}

func (e *breaking) Begin() error {
	err := e.call()
	e.begun = err == nil
	return err
}

func (e *breaking) Put(place int, fresh bool, r *Row) {
	if !e.begun || fresh != (e.found[place].Version == 0) {
		e.t.Errorf("Put, begun %t, fresh %t over %+v", e.begun, fresh, e.found[place])
	}
	e.found[place] = Found{Version: r.Version, Deleted: r.Deleted, Home: r.Home, Sum: r.Sum, Place: place}
}

func (e *breaking) Turn(region.ID, store.Turn) {
	if !e.begun {
		e.t.Error("Turn before Begin")
	}
}

func (e *breaking) Keep(*journal.Batch) {
	if !e.begun {
		e.t.Error("Keep before Begin")
	}
}

func (e *breaking) Erase(int) {
	if !e.begun {
		e.t.Error("Erase before Begin")
	}
}

func (e *breaking) Forget(region.ID) {
	if !e.begun {
		e.t.Error("Forget before Begin")
	}
}

func (e *breaking) Append(*Entry) {
	if !e.begun {
		e.t.Error("Append before Begin")
	}
}

func (e *breaking) Move(*journal.Position) {
	if !e.begun {
		e.t.Error("Move before Begin")
	}
}

// TestErrorChangesNothing fails an engine at each of its calls in turn: the state
// is what it was, and the same operation then succeeds with the same outcome as
// where nothing failed.
func TestErrorChangesNothing(t *testing.T) {
	foreign := &journal.Batch{Origin: "hk", Incarnation: 1, Owner: 7, Home: "hk", Records: []journal.Record{
		{Seq: 1, Kind: journal.KindRow, Row: &journal.RowRecord{Table: 1, Row: []byte("a"), Version: 1}},
		{Seq: 2, Kind: journal.KindRow, Row: &journal.RowRecord{Table: 1, Row: []byte("b"), Version: 1}},
		{Seq: 3, Kind: journal.KindRow, Row: &journal.RowRecord{Table: 1, Row: []byte("a"), Version: 2}},
	}}
	link, _ := journal.Next(journal.StreamHead{Stream: journal.Full}, foreign)
	foreign.Links = []journal.Link{link}
	for name, run := range map[string]func(*Step) error{
		"Commit": func(s *Step) error {
			_, err := s.Commit(&store.Batch{Owner: 7, Home: "sh", Writes: []store.Write{{Table: 1, Row: []byte("a")}, {Table: 101, Row: []byte("b")}, {Table: 201, Row: []byte("c")}}})
			return err
		},
		"Apply": func(s *Step) error {
			r, err := s.Apply(journal.Full, []*journal.Batch{foreign})
			if err == nil && r.Rows != 3 {
				t.Errorf("%d rows were applied, want 3", r.Rows)
			}
			return err
		},
		"SetPosition": func(s *Step) error {
			_, err := s.SetPosition(journal.Position{Origin: "hk", Stream: "to-sh", Incarnation: 1, Seq: 4})
			return err
		},
		"Mend": func(s *Step) error {
			return s.Mend(&store.Mending{Origin: "hk", Forget: true, Rows: []store.MendRow{
				{Owner: 10, Home: "hk", Row: store.Row{Table: 1, Row: []byte("y"), Version: 3}},
				{Owner: 11, Gone: true, Row: store.Row{Table: 1, Row: []byte("z")}},
			}, End: &store.MendEnd{Position: journal.Position{Origin: "hk", Stream: journal.Full, Incarnation: 2, Seq: 7}}})
		},
		"Watermark": func(s *Step) error {
			_, err := s.Watermark()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			begin := func() (*Step, *breaking) {
				e := &breaking{t: t, rows: map[string]int{}}
				s := &Step{Self: "sh", State: New(), Engine: e, Now: func() int64 { return 5 }}
				if _, err := s.Commit(&store.Batch{Owner: 9, Home: "sh", Writes: []store.Write{{Table: 1, Row: []byte("x")}}}); err != nil {
					t.Fatal(err)
				}
				e.calls, e.begun = 0, false
				return s, e
			}
			want, e := begin()
			if err := run(want); err != nil {
				t.Fatal(err)
			}
			calls := e.calls
			if calls == 0 {
				t.Fatal("nothing was asked of the engine")
			}
			for at := 1; at <= calls; at++ {
				s, e := begin()
				e.at = at
				before := s.State.Clone()
				if err := run(s); !errors.Is(err, errBroken) {
					t.Fatalf("call %d fails, and the step gives %v", at, err)
				}
				if !reflect.DeepEqual(s.State, before) {
					t.Errorf("call %d fails, and the state is %+v, was %+v", at, s.State, before)
				}
				e.at = 0
				if err := run(s); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(s.State, want.State) {
					t.Errorf("after call %d failed: %+v, want %+v", at, s.State, want.State)
				}
			}
		})
	}
}
