package postgres

import (
	"reflect"
	"testing"
	"testing/fstest"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/internal/partition"
)

// golden is what the columns of a partition's row hold. Databases have it: a
// change needs a migration.
var golden = columns{
	heads: `[{"stream":"full","last":9,"chain":"01000000000000000000000000000000"},{"stream":"to-hk","last":7,"chain":"02000000000000000000000000000000"}]`,
	sums:  `{"sh":{"changed":true,"unsettled":2,"shared":"03000000000000000000000000000000","sharedRows":4,"own":"05000000000000000000000000000000","ownRows":6}}`,
	fence: `{"hk":{"counter":8,"raised":"0900000000000000"}}`,
	turns: `{"sh":{"opened":{"counter":2,"raised":"0000000000000000"},"after":{"Origin":"hk","Stream":"full","Partition":0,"Incarnation":0,"Seq":5,"Chain":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"UnixMilli":0},"handed":{"counter":0,"raised":"0000000000000000"},"until":3,"ended":{"counter":0,"raised":"0000000000000000"}}}`,
}

func TestColumns(t *testing.T) {
	want := partition.New()
	want.Heads = []journal.StreamHead{{Stream: journal.Full, Last: 9, Chain: journal.Sum{1}}, {Stream: "to-hk", Last: 7, Chain: journal.Sum{2}}}
	want.Sums["sh"] = &partition.Sums{Changed: true, Unsettled: 2, Shared: partition.Tally{Sum: journal.Sum{3}, Rows: 4}, Own: partition.Tally{Sum: journal.Sum{5}, Rows: 6}}
	want.Turns["sh"] = store.Turn{Opened: region.Term{Counter: 2}, After: journal.Position{Origin: "hk", Stream: journal.Full, Seq: 5}, Until: 3}
	want.Fence["hk"] = region.Term{Counter: 8, Raised: region.ShortHash{9}}
	if got, err := encode(want); err != nil || got != golden {
		t.Errorf("encoded:\n%+v, %v, want\n%+v", got, err, golden)
	}
	got := partition.New()
	if err := golden.decode(got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("decoded:\n%+v, %v, want\n%+v", got, err, want)
	}
}

func FuzzColumns(f *testing.F) {
	f.Add(golden.heads, golden.sums, golden.fence, golden.turns)
	f.Add(`[{"chain":"zz"}]`, `{"sh":{"own":"01"}}`, `null`, `{"sh":{"until":-1}}`)
	f.Fuzz(func(t *testing.T, heads, sums, fence, turns string) {
		s := partition.New()
		if (columns{heads, sums, fence, turns}).decode(s) != nil {
			return
		}
		c, err := encode(s)
		if err != nil {
			t.Fatal(err)
		}
		again := partition.New()
		if err := c.decode(again); err != nil || !reflect.DeepEqual(again, s) {
			t.Fatalf("%+v, %v, want %+v", again, err, s)
		}
	})
}

func TestMigrationsAreNumbered(t *testing.T) {
	all, err := load(migrations)
	if err != nil || len(all) == 0 {
		t.Fatalf("%d migrations, %v", len(all), err)
	}
	for _, names := range [][]string{{"0002_a.sql"}, {"0001_a.sql", "0003_b.sql"}, {"x.sql"}, {"0001_a.sql", "0001_b.sql"}} {
		files := fstest.MapFS{}
		for _, name := range names {
			files["migrations/"+name] = &fstest.MapFile{}
		}
		if _, err := load(files); err == nil {
			t.Errorf("%v were accepted", names)
		}
	}
}
