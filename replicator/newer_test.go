package replicator_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/storetest"
	"github.com/homing-im/homing/replicator"
)

// TestNewerRecords has one region of three upgraded: its journal has records of
// kinds that the others do not know, in every partition, between all others. They
// travel through queue and gap filling, stop nobody, and are shown.
func TestNewerRecords(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	sh := w.regions["sh"]
	newer := 0
	write := func(from, to int) {
		for n := from; n < to; n++ {
			for _, r := range w.regions {
				r.write(n)
			}
			if n%3 == 0 {
				sh.store.(*storetest.Memory).AppendNewer(&journal.Batch{Owner: user("sh", n%16), Home: "sh", Records: []journal.Record{
					{Kind: 77, Opaque: fmt.Append(nil, "for backups ", n)}, {Kind: 177, Opaque: fmt.Append(nil, "for everybody ", n)},
				}})
				newer++
			}
		}
	}
	write(0, 30) // before anybody listens: what the queue gets is what was placed anew
	w.start()
	write(30, 60)
	w.settle()
	sh.broker.Cut(true) // the rest goes over the origin's journal
	write(60, 90)
	w.settle()
	sh.broker.Cut(false)
	w.executedOnce(90)
	for _, r := range w.regions {
		for _, l := range r.Lag() {
			want, state := uint64(0), replicator.StateLive
			switch {
			case l.Origin != "sh":
			case l.Stream == journal.Full:
				want, state = 2*uint64(newer), replicator.StateDiffers
			case l.Stream == journal.Shared:
				want, state = uint64(newer), replicator.StateDiffers
			}
			if l.Newer != want || want > 0 && (l.State != state || !strings.Contains(l.Reason, "newer version")) || l.GapFills == 0 && want > 0 {
				t.Errorf("%s of %s at %s: %d newer records, want %d; %d gap fills; %s %s", l.Stream, l.Origin, r.id, l.Newer, want, l.GapFills, l.State, l.Reason)
			}
		}
	}
}
