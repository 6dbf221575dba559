package acting

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/homing-im/homing/cmd/homing/observe"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/core"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/replicator"
)

func three() *region.World {
	w := &region.World{Version: 4}
	for _, r := range []region.Region{{ID: "sh", Backups: []region.ID{"hk", "ca"}}, {ID: "hk", Backups: []region.ID{"sh", "ca"}}, {ID: "ca", Backups: []region.ID{"hk", "sh"}}} {
		r.Acting = region.Acting{Region: r.ID, Counter: 1}
		w.Regions = append(w.Regions, r)
	}
	return w
}

// What makes no sense is refused before anybody is asked.
func TestWished(t *testing.T) {
	for _, c := range []struct {
		want Wish
		edit func(*region.World)
		to   region.ID // "": refused
	}{
		{Wish{Switchover, "sh", "", ""}, nil, "hk"},
		{Wish{Failover, "sh", "ca", ""}, nil, "ca"},
		{Wish{Failover, "sh", "", "ca"}, nil, "hk"},
		{Wish{Failback, "sh", "", ""}, func(w *region.World) { w.Regions[0].Acting.Region = "hk" }, "sh"},
		{Wish{Failback, "sh", "", ""}, nil, ""},
		{Wish{Switchover, "xx", "", ""}, nil, ""},
		{Wish{Switchover, "sh", "xx", ""}, nil, ""},
		{Wish{Failover, "sh", "hk", "hk"}, nil, ""},
		{Wish{Failover, "sh", "hk", "sh"}, nil, ""},
		{Wish{Failover, "sh", "hk", "xx"}, nil, ""},
		{Wish{Failover, "sh", "hk", "ca"}, func(w *region.World) { w.Regions[2].Away = true }, ""},
		{Wish{Failover, "sh", "hk", ""}, func(w *region.World) { w.Regions[1].Away = true }, ""},
		{Wish{Failover, "sh", "sh", "ca"}, func(w *region.World) { w.Regions[0].Acting.Region = "hk" }, ""},
	} {
		w := three()
		if c.edit != nil {
			c.edit(w)
		}
		p, err := wished(w, c.want)
		if (err == nil) != (c.to != "") || err == nil && p.To != c.to || err != nil && region.KindOf(err) != region.BadInput {
			t.Errorf("%+v: %+v, %v, want to %q", c.want, p, err, c.to)
		}
	}
}

// The signed world and the lines of the operator's file say the same.
func TestRevision(t *testing.T) {
	v := &revision{world: three()}
	v.acts("sh", "hk", "ca")
	v.backs("hk", "ca")
	if r := v.region("sh"); r.Acting != (region.Acting{Region: "hk", Counter: 2}) || r.NewBackup != "ca" || !slices.Equal(v.region("hk").Backups, []region.ID{"ca", "sh"}) {
		t.Errorf("%+v", v.world.Regions)
	}
	want := []line{{"sh", "acting", "hk"}, {"sh", "new-backup", "ca"}, {"hk", "backups", "[ca, sh]"}}
	if !slices.Equal(v.lines, want) {
		t.Errorf("%v, want %v", v.lines, want)
	}
	v.lines = nil
	v.acts("sh", "sh", "")
	if v.region("sh").NewBackup != "" || !slices.Equal(v.lines, []line{{"sh", "acting", "sh"}, {"sh", "new-backup", ""}}) {
		t.Errorf("home again: %+v, %v", v.region("sh"), v.lines)
	}

	v = &revision{world: three()}
	first := v.last("hk")
	v.away("hk", true)
	if !slices.Equal(first, []region.ID{"sh", "ca"}) || !slices.Equal(v.region("sh").Backups, []region.ID{"ca", "hk"}) || !v.region("hk").Away {
		t.Errorf("hk was first of %v; %+v", first, v.world.Regions)
	}
	if want := []line{{"sh", "backups", "[ca, hk]"}, {"ca", "backups", "[sh, hk]"}, {"hk", "away", "true"}}; !slices.Equal(v.lines, want) {
		t.Errorf("%v, want %v", v.lines, want)
	}
}

// A third region may know of records that the copy lacks: they are listed.
func TestGaps(t *testing.T) {
	lag := func(origin region.ID, s journal.Stream, state replicator.State, at ...uint64) replicator.Lag {
		l := replicator.Lag{Origin: origin, Stream: s, State: state}
		for i := range at {
			l.Partitions = append(l.Partitions, replicator.PartitionLag{Partition: region.Partition(i), Position: at[i], Head: at[i], State: state})
		}
		return l
	}
	hk := survivor("hk", "sh", []replicator.Lag{lag("sh", journal.Full, replicator.StateUnknown, 10, 20, 30), lag("ca", journal.Full, replicator.StateLive, 99)})
	hk2 := lag("sh", "to-hk", replicator.StateUnknown, 9, 8, 7)
	ca := survivor("ca", "sh", []replicator.Lag{lag("sh", journal.Shared, replicator.StateUnknown, 9, 22, 30), lag("sh", "to-ca", replicator.StateUnknown, 10, 21, 33)})
	if len(ca.Full) != 0 || len(hk.Full) != 3 || hk.Heard != nil {
		t.Errorf("hk %+v, ca %+v", hk, ca)
	}
	want := []Gap{{1, 20, 22, "ca"}, {2, 30, 33, "ca"}}
	if got := gaps([]Survivor{*hk, *ca}, "hk"); !slices.Equal(got, want) {
		t.Errorf("hk lacks %v, want %v", got, want)
	}
	// ca has no copy, so it lacks everything.
	if got := gaps([]Survivor{*hk, *ca}, "ca"); len(got) != 3 || got[0] != (Gap{0, 0, 10, "ca"}) {
		t.Errorf("ca lacks %v", got)
	}
	hk = survivor("hk", "sh", []replicator.Lag{lag("sh", journal.Full, replicator.StateBootstrap, 10, 20, 30), hk2})
	if len(hk.Full) != 0 {
		t.Errorf("a copy that is being begun counts: %+v", hk)
	}

	var out strings.Builder
	p := Plan{Kind: Failover, Home: "sh", From: "sh", To: "hk", HasCopy: true, Survivors: []Survivor{*ca}, Gaps: want}
	p.Print(&out)
	for _, say := range []string{"partition 2: hk has everything up to sequence 30; ca knows of 33", "ca has no whole copy of sh's journal", "sh does not answer, asked 3 times"} {
		if !strings.Contains(out.String(), say) {
			t.Errorf("the plan does not say %q:\n%s", say, out.String())
		}
	}
}

// What would vanish is what the best of the survivors has and the successor not.
func TestLost(t *testing.T) {
	of := func(rows ...uint64) (h []core.Holding) {
		for i, n := range rows {
			h = append(h, core.Holding{Partition: region.Partition(i), Owners: int(n / 10), Messages: n / 2, SharedRows: n / 4, OwnRows: n - n/4})
		}
		return h
	}
	l := &Lost{}
	l.compare("ca", of(40, 0, 100), map[region.ID][]core.Holding{"hk": of(100, 100, 100), "ca": of(40, 0, 100)})
	want := &Lost{Best: "hk", Owners: 16, Messages: 80, Rows: 160, Parts: []LostPart{{0, 6, 30, 60}, {1, 10, 50, 100}}}
	if !reflect.DeepEqual(l, want) {
		t.Errorf("%+v, want %+v", l, want)
	}
	l = &Lost{}
	l.compare("ca", of(40, 0, 100), map[region.ID][]core.Holding{"ca": of(40, 0, 100)})
	if l.Best != "ca" || len(l.Parts) != 0 {
		t.Errorf("nobody else has anything: %+v", l)
	}
}

// A region whose first answers are lost is not called dead.
func TestAskedSeveralTimes(t *testing.T) {
	var asked atomic.Int32
	lose := int32(asks - 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) <= lose {
			panic(http.ErrAbortHandler)
		}
		_ = json.NewEncoder(w).Encode(observe.NodeStatus{World: 7})
	}))
	defer s.Close()
	o := &Operator{Client: &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}, Out: io.Discard}
	r := &region.Region{ID: "sh", Admin: s.Listener.Addr().String()}
	if st, err := o.ask(context.Background(), r); err != nil || st.World != 7 || asked.Load() != asks {
		t.Errorf("%+v, %v after %d questions", st, err, asked.Load())
	}
	lose = asked.Load() + asks
	if _, err := o.ask(context.Background(), r); region.KindOf(err) != region.Unavailable || asked.Load() != lose {
		t.Errorf("%v after %d questions", err, asked.Load()-asks)
	}
}

// A region that takes longer over an answer than the next question waits is alive.
func TestAskedPatiently(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(askTimeout + asksApart/2):
			_ = json.NewEncoder(w).Encode(observe.NodeStatus{World: 7})
		case <-r.Context().Done():
		}
	}))
	defer s.Close()
	o := &Operator{Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, Out: io.Discard}
	if st, err := o.ask(context.Background(), &region.Region{ID: "sh", Admin: s.Listener.Addr().String()}); err != nil || st.World != 7 {
		t.Errorf("%+v, %v", st, err)
	}
}
