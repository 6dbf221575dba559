package replicator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/storetest"
)

// fakePeers answers with given positions; nil is a region that is down.
type fakePeers struct {
	Peers
	positions map[region.ID]*Positions
}

func (f fakePeers) Positions(_ context.Context, of region.ID) (*Positions, error) {
	if p := f.positions[of]; p != nil {
		return p, nil
	}
	return nil, errors.New("down")
}

func testStore(t *testing.T, commits int) store.Store {
	t.Helper()
	s := storetest.NewMemory(storetest.Config{Region: "sh", Partitions: 1, Now: time.Now})
	for i := range commits {
		_, err := s.Commit(context.Background(), &store.Batch{Owner: 1000001, Home: "sh", Writes: []store.Write{
			{Table: 101, Row: fmt.Append(nil, i), Value: []byte("v")}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func testKeeper(s store.Store, peers Peers) *keeper {
	o := &Options{Self: "sh", Store: s, View: func() *region.View { return world(nil) }, Keep: 5, Logger: slog.New(slog.DiscardHandler)}
	return newKeeper(o, peers, newMetrics())
}

func TestTrim(t *testing.T) {
	full := func(seq uint64) *Positions {
		return &Positions{Positions: []PositionEntry{{Origin: "sh", Stream: journal.Full, Seq: seq}}}
	}
	for name, c := range map[string]struct {
		peers map[region.ID]*Positions
		first uint64
	}{
		"never while one is unknown":         {map[region.ID]*Positions{"hk": full(20)}, 1},
		"up to what the backup has":          {map[region.ID]*Positions{"hk": full(7), "ca": {}}, 8},
		"but what is to be kept, in records": {map[region.ID]*Positions{"hk": full(20), "ca": {}}, 16},
		"the backup has nothing":             {map[region.ID]*Positions{"hk": {}, "ca": {}}, 1},
	} {
		s := testStore(t, 20)
		k := testKeeper(s, fakePeers{positions: c.peers})
		k.trim(context.Background())
		if first := s.Head(0).First; first != c.first {
			t.Errorf("%s: the journal begins at %d, want %d", name, first, c.first)
		}
	}
}

func TestShippingAgainBeginsWhereItIsNeeded(t *testing.T) {
	s := testStore(t, 20)
	k := testKeeper(s, fakePeers{positions: map[region.ID]*Positions{
		"hk": {Positions: []PositionEntry{{Origin: "sh", Stream: journal.Full, Seq: 7}}}, "ca": {}}})
	if at := k.oldest(0, journal.Full); at != 1 {
		t.Errorf("with nothing known, shipping begins at %d", at)
	}
	k.trim(context.Background())
	if at := k.oldest(0, journal.Full); at != 8 {
		t.Errorf("the backup has 7, shipping begins at %d", at)
	}
}

func TestWatermarksFollowChanges(t *testing.T) {
	s := testStore(t, 3)
	k := testKeeper(s, fakePeers{})
	next := func() uint64 {
		k.watermark(context.Background())
		return s.Head(0).Next
	}
	if n := next(); n != 5 {
		t.Errorf("after three rows the journal goes on at %d, want one watermark", n)
	}
	if n := next(); n != 5 {
		t.Errorf("without a change there is another watermark: %d", n)
	}
	if _, err := s.Commit(context.Background(), &store.Batch{Owner: 1000001, Home: "sh", Writes: []store.Write{{Table: 101, Row: []byte("new")}}}); err != nil {
		t.Fatal(err)
	}
	if n := next(); n != 7 {
		t.Errorf("after a change the journal goes on at %d, want another watermark", n)
	}
}

func TestJournalHandlerAndItsClient(t *testing.T) {
	s := testStore(t, 20)
	if err := s.Trim(context.Background(), 0, 4); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPosition(context.Background(), journal.Position{Origin: "hk", Stream: "to-sh", Seq: 9}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(JournalHandler(s, nil))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	w := world(nil)
	for i := range w.World.Regions {
		w.World.Regions[i].Admin = server.Listener.Addr().String()
	}
	peers := &httpPeers{client: &http.Client{Transport: transport}, view: func() *region.View { return w }}
	ctx := context.Background()

	batches, err := peers.Journal(ctx, "sh", 0, journal.Full, 10)
	if err != nil || len(batches) == 0 || batches[0].First() != 10 || batches[len(batches)-1].Last() != 21 {
		t.Errorf("journal from 10: %d batches, %v", len(batches), err)
	}
	if batches, err = peers.Journal(ctx, "sh", 0, journal.Full, 22); err != nil || len(batches) != 0 {
		t.Errorf("journal from its end: %d batches, %v", len(batches), err)
	}
	if _, err = peers.Journal(ctx, "sh", 0, journal.Full, 2); region.KindOf(err) != region.NotFound {
		t.Errorf("journal from before its beginning: %v", err)
	}
	heads, err := peers.Heads(ctx, "sh")
	if err != nil || len(heads.Partitions) != 1 || heads.Partitions[0].Next != 22 || heads.Partitions[0].Last(journal.Full) != 21 {
		t.Errorf("heads %+v, %v", heads, err)
	}
	positions, err := peers.Positions(ctx, "sh")
	if err != nil || len(positions.Positions) != 1 || positions.Positions[0] != (PositionEntry{Origin: "hk", Stream: "to-sh", Seq: 9}) {
		t.Errorf("positions %+v, %v", positions, err)
	}
	if _, err := peers.Heads(ctx, "hk"); err == nil {
		t.Error("sh passed for hk")
	}
	if _, err := peers.Heads(ctx, "zz"); err == nil {
		t.Error("a region that is not in the world answered")
	}

	for path, want := range map[string]int{
		"/journal": 400,
		"/journal?partition=1&stream=full&from=1":    400,
		"/journal?partition=-1&stream=full&from=1":   400,
		"/journal?partition=0&stream=secret&from=1":  400,
		"/journal?partition=0&stream=full&from=0":    400,
		"/journal?partition=0&stream=full&from=x":    400,
		"/journal?partition=0&stream=full&from=1":    410,
		"/journal?partition=0&stream=full&from=4":    200,
		"/journal?partition=0&stream=to-hk&from=999": 200,
		"/other": 404,
	} {
		res, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != want || (want == 400 && !strings.Contains(string(body), "want")) {
			t.Errorf("%s: %s %q, want %d", path, res.Status, body, want)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestMetricNames(t *testing.T) {
	name := regexp.MustCompile(`^homing_replicator_[a-z_]+_(total|records|seconds|partitions)$`)
	r := prometheus.NewRegistry()
	m := newMetrics()
	m.shipped.WithLabelValues("full").Inc()
	for _, v := range []*prometheus.CounterVec{m.batches, m.rows, m.duplicates, m.fills, m.rereads, m.quarantined, m.mismatches, m.halted} {
		v.WithLabelValues("sh", "full").Inc()
	}
	lag := newLagCollector(func() []Lag { return []Lag{{Origin: "sh", Stream: "full", Records: 3, Seconds: 1}} })
	for _, c := range append(m.collectors(), lag) {
		if err := r.Register(c); err != nil {
			t.Fatal(err)
		}
	}
	families, err := r.Gather()
	if err != nil || len(families) != 17 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	for _, f := range families {
		if !name.MatchString(f.GetName()) || f.GetHelp() == "" {
			t.Errorf("metric %s: %q", f.GetName(), f.GetHelp())
		}
	}
}
