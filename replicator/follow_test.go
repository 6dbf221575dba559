package replicator_test

import (
	"slices"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
)

// TestLagWhileWorldsChange asks for the lag, as consoles do, while every new
// world has the replay of an origin begin anew with other streams. The race
// detector is what looks.
func TestLagWhileWorldsChange(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.start()
	hk := w.regions["hk"]
	done := make(chan struct{})
	var asked []chan struct{}
	for range 2 {
		ended := make(chan struct{})
		asked = append(asked, ended)
		go func() {
			defer close(ended)
			for {
				select {
				case <-done:
					return
				default:
					hk.Lag()
				}
			}
		}()
	}
	for i := range 40 {
		want, backups := journal.Full, []region.ID{"hk", "ca"}
		if i%2 == 0 {
			want, backups = journal.Shared, []region.ID{"ca", "hk"}
		}
		w.become(func(next *region.World) { next.Regions[0].Backups = backups })
		eventually(t, func() error { return replays(hk, "sh", want) })
	}
	close(done)
	for _, ended := range asked {
		<-ended
	}
}

// replays says whether a region replays a stream of an origin.
func replays(r *testRegion, origin region.ID, want journal.Stream) error {
	var have []journal.Stream
	for _, l := range r.Lag() {
		if l.Origin == origin {
			have = append(have, l.Stream)
		}
	}
	if !slices.Contains(have, want) {
		return region.Errorf(region.Unavailable, "%s replays %v of %s, want %s", r.id, have, origin, want)
	}
	return nil
}
