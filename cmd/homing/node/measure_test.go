package node

import (
	"maps"
	"testing"
	"time"

	"github.com/homing-im/homing/dns/steer"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/gossip"
)

func member(name, kind, of, load string, s gossip.Status) gossip.Member {
	m := gossip.Member{Name: name, Status: s, Tags: map[string]string{gossip.TagKind: kind, gossip.TagRegion: of}}
	if load != "" {
		m.Tags[gossip.TagLoad] = load
	}
	return m
}

// What members tell becomes what steering goes by: the dead and the silent say
// nothing, the processes of a region add up.
func TestWhatMembersTell(t *testing.T) {
	members := []gossip.Member{
		member("pop-a", "pop", "pop-a", "9100", gossip.Alive), member("pop-b", "pop", "pop-b", "5000", gossip.Failed),
		member("pop-c", "pop", "pop-c", "much", gossip.Alive), member("pop-d", "pop", "pop-d", "", gossip.Alive),
		member("sh-1", "region", "sh", "3000", gossip.Alive), member("sh-2", "region", "sh", "2500", gossip.Alive),
		member("hk", "region", "hk", "", gossip.Alive), member("dns-1", "dns", "dns-1", "77", gossip.Alive),
	}
	if got, want := loadsOf(members), map[steer.Site]uint32{{POP: "pop-a"}: 9100, {Region: "sh"}: 5500}; !maps.Equal(got, want) {
		t.Errorf("loads %v", got)
	}
	w := &region.World{Regions: []region.Region{{ID: "sh"}, {ID: "hk"}, {ID: "gone"}}}
	rtts := map[[2]string]time.Duration{{"pop-a", "sh-1"}: 30 * time.Millisecond, {"pop-a", "hk"}: 48600 * time.Microsecond, {"sh-1", "hk"}: 40 * time.Millisecond, {"hk", "sh-1"}: 3 * time.Millisecond}
	rtt := func(a, b string) (time.Duration, bool) { d, ok := rtts[[2]string{a, b}]; return d, ok }
	path := func(s steer.Site, to region.ID) steer.Path { return steer.Path{From: s, To: to} }
	first := roundTrips(w, members, rtt, nil)
	if want := map[steer.Path]uint32{
		path(steer.Site{POP: "pop-a"}, "sh"): 30, path(steer.Site{POP: "pop-a"}, "hk"): 49, path(steer.Site{Region: "sh"}, "hk"): 40, path(steer.Site{Region: "hk"}, "sh"): 3,
	}; !maps.Equal(first, want) {
		t.Errorf("round trips %v", first)
	}
	rtts[[2]string{"pop-a", "sh-1"}], rtts[[2]string{"pop-a", "hk"}] = 35*time.Millisecond, 58*time.Millisecond
	rtts[[2]string{"sh-1", "hk"}], rtts[[2]string{"hk", "sh-1"}] = 48*time.Millisecond, 8*time.Millisecond
	if got, want := roundTrips(w, members, rtt, first), map[steer.Path]uint32{
		path(steer.Site{POP: "pop-a"}, "sh"): 30, // a sixth
		path(steer.Site{POP: "pop-a"}, "hk"): 58, path(steer.Site{Region: "sh"}, "hk"): 48, path(steer.Site{Region: "hk"}, "sh"): 8,
	}; !maps.Equal(got, want) {
		maps.DeleteFunc(got, func(p steer.Path, v uint32) bool { return want[p] == v })
		t.Errorf("later %v", got)
	}
}

// Only what changes is a new measure, from the first one on.
func TestGatherTellsChanges(t *testing.T) {
	w := &region.World{Regions: []region.Region{{ID: "sh"}}}
	members := []gossip.Member{member("pop-a", "pop", "pop-a", "9100", gossip.Alive), member("sh", "region", "sh", "", gossip.Alive)}
	rtt := func(string, string) (time.Duration, bool) { return 7 * time.Millisecond, true }
	if got := gather(w, false, false, members, rtt, nil); got != nil {
		t.Errorf("nothing is wanted: %+v", got)
	}
	first := gather(w, true, true, members, rtt, nil)
	if first == nil || first.Loads[steer.Site{POP: "pop-a"}] != 9100 || first.RTTs[steer.Path{From: steer.Site{POP: "pop-a"}, To: "sh"}] != 7 {
		t.Fatalf("first %+v", first)
	}
	if again := gather(w, true, true, members, rtt, first); again != first {
		t.Errorf("again %+v", again)
	}
	members[0].Tags[gossip.TagLoad] = "100"
	if later := gather(w, true, true, members, rtt, first); later == first || later.Loads[steer.Site{POP: "pop-a"}] != 100 {
		t.Errorf("later %+v", later)
	}
	if none := gather(w, false, false, members, rtt, first); none == first || none.Loads != nil || none.RTTs != nil {
		t.Errorf("not wanted any more: %+v", none)
	}
}
