package storetest

import (
	"math"
	"slices"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// testOwners lists who has rows in a table, page by page, among neighbours in
// the key space.
func testOwners(t *testing.T, f Factory) {
	s := open(t, f, "sh")
	all := append(owners(1, 40), owners(0, 5)...)
	p := region.PartitionOf(all[0], s.Partitions())
	var want []region.UIN
	for i, u := range all {
		table := []journal.Table{own - 1, own, own + 1}[i%3]
		commit(t, s, batch(u, put(table, "a", "1"), put(table, "b", "2")))
		if table == own && region.PartitionOf(u, s.Partitions()) == p {
			want = append(want, u)
		}
	}
	gone := want[len(want)/2]
	commit(t, s, batch(gone, del(own, "a"), del(own, "b"))) // had some once
	commit(t, s, batch(math.MaxUint64, put(own, "a", "nobody's")))
	slices.Sort(want)
	for _, limit := range []int{1, 2, 7, 1000} {
		var got []region.UIN
		for {
			after := region.UIN(0)
			if len(got) > 0 {
				after = got[len(got)-1]
			}
			page, err := s.Owners(ctx, p, own, after, limit)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, page...); len(page) < limit {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in pages of %d: %v, want %v", limit, got, want)
		}
	}
	for name, list := range map[string]func() ([]region.UIN, error){
		"behind the last":     func() ([]region.UIN, error) { return s.Owners(ctx, p, own, want[len(want)-1], 10) },
		"behind all":          func() ([]region.UIN, error) { return s.Owners(ctx, p, own, math.MaxUint64, 10) },
		"a table without row": func() ([]region.UIN, error) { return s.Owners(ctx, p, own+9, 0, 10) },
	} {
		if got, err := list(); err != nil || len(got) != 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if _, err := s.Owners(ctx, region.Partition(s.Partitions()), own, 0, 1); region.KindOf(err) != region.BadInput {
		t.Errorf("no such partition: %v", err)
	}
}
