package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	testchild "github.com/homing-im/homing/deploy/test/child"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/mend"
	"github.com/homing-im/homing/region/store/storetest"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/embedded"
	"github.com/homing-im/homing/replicator/kafka"
)

// TestMain looks for goroutines left behind, and has patience: on a busy
// machine a connection that was closed takes a while to be gone.
func TestMain(m *testing.M) {
	if listen := os.Getenv(childListen); listen != "" {
		childBroker(listen, os.Getenv(childDir))
	}
	code := m.Run()
	if err := apache.stop(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if code == 0 {
		err := goleak.Find()
		for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); {
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

const (
	partitions = 4
	patience   = 90 * time.Second // of a test for what must happen; brokers in Java take their time on a busy machine

	shared journal.Table = 7
	own    journal.Table = 107
)

// testWorld is regions with stores in memory, real brokers and real HTTP.
type testWorld struct {
	t       testing.TB
	regions map[region.ID]*testRegion
	copies  int    // of each message in the queue
	spare   string // a queue group that keeps one copy
	hurry   bool   // to another queue group, and back
	budget  uint64 // of the journal; set: it is trimmed all the time

	mu      sync.Mutex
	view    *region.View
	changed chan struct{}
}

type testRegion struct {
	w        *testWorld
	id       region.ID
	store    store.Store
	broker   *embedded.Broker
	dir      string
	queue    string // address
	storeDir string // of an embedded engine
	peers    *http.Transport
	metrics  *prometheus.Registry
	server   *httptest.Server
	down     downSwitch
	ran      *executor
	older    *older // set: this region is of an older version
	*replicator.Replicator
}

// newWorld makes a world whose regions have a broker each, in this process.
func newWorld(t testing.TB, ids ...region.ID) *testWorld {
	t.Helper()
	w := newWorldOn(t, 1, func() string { return testchild.Address() }, ids...)
	for _, r := range w.regions {
		r.startBroker()
		t.Cleanup(func() { _ = r.broker.Close() })
	}
	return w
}

// newWorldOn makes a world whose queues are somewhere else, and keep so many
// copies of each message.
func newWorldOn(t testing.TB, copies int, queue func() string, ids ...region.ID) *testWorld {
	t.Helper()
	w := &testWorld{t: t, regions: map[region.ID]*testRegion{}, copies: copies, changed: make(chan struct{})}
	world := &region.World{Version: 1, Partitions: partitions}
	for i, id := range ids {
		r := &testRegion{w: w, id: id, dir: filepath.Join(t.TempDir(), "queue"), queue: queue(),
			store: storetest.NewMemory(storetest.Config{Region: id, Partitions: partitions, Now: time.Now})}
		r.ran = &executor{store: r.store, times: map[journal.CommandID]int{}, last: map[spotKey]uint64{}}
		w.regions[id] = r
		r.down.serve(replicator.JournalHandler(r.store, nil))
		r.server = httptest.NewServer(&r.down)
		backups := append(append([]region.ID{}, ids[i+1:]...), ids[:i]...)
		world.Regions = append(world.Regions, region.Region{ID: id, Backups: backups, Acting: region.Acting{Region: id},
			Queue: r.queue, Admin: r.server.Listener.Addr().String()})
		t.Cleanup(r.server.Close)
	}
	w.view = region.NewView(world, region.Hash{1}, nil)
	return w
}

// start starts all replicators; they are closed before brokers and servers.
func (w *testWorld) start() {
	for _, r := range w.regions {
		r.startReplicator()
		w.t.Cleanup(func() { r.stopReplicator() })
	}
}

func (w *testWorld) View() *region.View {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.view
}

func (w *testWorld) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// become makes a new world take effect.
func (w *testWorld) become(edit func(*region.World)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := *w.view.World
	next.Version++
	next.Regions = append([]region.Region(nil), next.Regions...)
	edit(&next)
	w.view = region.NewView(&next, region.Hash{byte(next.Version)}, nil)
	close(w.changed)
	w.changed = make(chan struct{})
}

func (r *testRegion) startBroker() {
	b, err := embedded.Start(embedded.Options{Listen: r.queue, Dir: r.dir, Partitions: partitions})
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.broker = b
}

func (r *testRegion) startReplicator() {
	r.metrics = prometheus.NewRegistry()
	mended, _ := r.store.(mend.Replica) // stores in memory are none
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(testWriter{r.w.t}, nil)).With("region", r.id)
	}
	r.peers = &http.Transport{}
	var groupPatience, groupReturn time.Duration
	if r.w.hurry {
		groupPatience, groupReturn = 200*time.Millisecond, time.Second
	}
	var trimEvery time.Duration
	if r.w.budget > 0 {
		trimEvery = 20 * time.Millisecond
	}
	var err error
	r.Replicator, err = replicator.New(replicator.Options{
		Self: r.id, Store: r.store, Mend: mended, Executor: r.ran, Merger: noTail{}, View: r.w.View, Changed: r.w.Changed,
		Open: func(_ region.ID, brokers string) (replicator.Queue, error) {
			copies := r.w.copies
			if brokers == r.w.spare {
				copies = 1
			}
			q, err := kafka.New(kafka.Options{Brokers: []string{brokers}, Replication: copies, Zstd: true})
			if err != nil || r.older == nil {
				return q, err
			}
			return olderQueue{q, r.older}, nil
		},
		Client: &http.Client{Transport: r.older.transport(r.peers)}, Keep: 10, Budget: r.w.budget, TrimEvery: trimEvery, GroupPatience: groupPatience, GroupReturn: groupReturn, Logger: logger, Registry: r.metrics,
	})
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.down.serve(r.JournalHandler())
}

func (r *testRegion) stopReplicator() {
	if r.Replicator == nil {
		return
	}
	if err := r.Replicator.Close(); err != nil {
		r.w.t.Error(err)
	}
	r.peers.CloseIdleConnections()
	r.Replicator = nil
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(string(b[:len(b)-1]))
	return len(b), nil
}

// executor runs commands as the core does: the effect is a row, which is written
// unless it is there. It counts how often each command was given, and checks
// that those of one sender come in order.
type executor struct {
	store store.Store
	mu    sync.Mutex
	times map[journal.CommandID]int
	last  map[spotKey]uint64 // sequence of the newest command
	fail  error

	disorder int // commands that came first after a later one
}

type spotKey struct {
	origin    region.ID
	partition region.Partition
	to        region.ID
}

func (e *executor) Execute(ctx context.Context, batches []*journal.Batch) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		return e.fail
	}
	for _, b := range batches {
		for _, rec := range b.Records {
			c := rec.Command
			e.times[c.ID]++
			from := spotKey{b.Origin, b.Partition, c.To}
			if e.times[c.ID] == 1 && rec.Seq < e.last[from] {
				e.disorder++
			}
			e.last[from] = max(e.last[from], rec.Seq)
			_, err := e.store.Commit(ctx, &store.Batch{Owner: c.Target, Home: c.To, Writes: []store.Write{
				{Table: own, Row: append([]byte("inbox-"), c.Payload...), Value: c.Payload, Expect: store.Absent()},
			}})
			if err != nil && region.KindOf(err) != region.Conflict { // a conflict: it ran before
				return err
			}
		}
	}
	return nil
}

func (e *executor) disordered() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.disorder
}

// downSwitch is a region's admin listener, which can be down, and which outlives
// the store behind it.
type downSwitch struct {
	mu      sync.Mutex
	down    bool
	handler http.Handler
}

func (d *downSwitch) set(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

func (d *downSwitch) serve(h http.Handler) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.handler = h
}

func (d *downSwitch) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	down, h := d.down, d.handler
	d.mu.Unlock()
	if down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	h.ServeHTTP(w, r)
}

// user returns the i-th owner of a region's segment.
func user(home region.ID, i int) region.UIN {
	base := map[region.ID]region.UIN{"sh": 1_000_000, "hk": 2_000_000, "ca": 3_000_000}[home]
	return base + region.UIN(i)
}

// write commits the n-th change of a region: a shared row, an own row, and a
// command to each other region.
func (r *testRegion) write(n int) {
	r.w.t.Helper()
	b := &store.Batch{Owner: user(r.id, n%16), Home: r.id, Writes: []store.Write{
		{Table: shared, Row: fmt.Append(nil, "profile-", n%5), Value: fmt.Append(nil, "shared value ", n)},
		{Table: own, Row: fmt.Append(nil, "contact-", n%7), Value: fmt.Append(nil, "own value ", n), Delete: n%11 == 0},
	}}
	if n%11 == 0 {
		b.Writes[1].Value = nil
	}
	for id := range r.w.regions {
		if id != r.id {
			b.Commands = append(b.Commands, journal.Command{ID: commandID(r.id, id, n), To: id, Target: user(id, n%16), Method: 1,
				Payload: fmt.Append(nil, r.id, "-", n)})
		}
	}
	if _, err := r.store.Commit(context.Background(), b); err != nil {
		r.w.t.Fatal(err)
	}
}

func commandID(from, to region.ID, n int) (id journal.CommandID) {
	s := journal.SumOf(fmt.Append(nil, from, to, n))
	copy(id[:], s[:])
	return id
}

// settled reports what keeps the replicas from being equal, or nil: every
// position is at its origin's head, and every sum equals its home's.
func (w *testWorld) settled() error {
	for _, from := range w.regions {
		for _, to := range w.regions {
			if from == to {
				continue
			}
			if err := w.equal(from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *testWorld) equal(from, to *testRegion) error {
	view := w.View()
	origin, _ := view.World.Region(from.id)
	for p := range partitions {
		part := region.Partition(p)
		stream := journal.Shared
		if origin.Backups[0] == to.id {
			stream = journal.Full
		}
		for _, h := range from.store.Head(part).Streams {
			if h.Stream != stream && h.Stream != journal.StreamTo(to.id) {
				continue
			}
			at, err := to.store.Position(context.Background(), from.id, h.Stream, part)
			if err != nil {
				return err
			}
			if at.Seq != h.Last || at.Chain != h.Chain {
				return fmt.Errorf("%s has %s of %s/%d up to %d, its head is %d", to.id, h.Stream, from.id, p, at.Seq, h.Last)
			}
		}
		want, have := from.store.Sums(part, from.id), to.store.Sums(part, from.id)
		if want.SharedSum != have.SharedSum || want.SharedRows != have.SharedRows {
			return fmt.Errorf("%s's shared rows of %s/%d differ: %d and %d", to.id, from.id, p, have.SharedRows, want.SharedRows)
		}
		if stream == journal.Full && (want.OwnSum != have.OwnSum || want.OwnRows != have.OwnRows) {
			return fmt.Errorf("%s's own rows of %s/%d differ: %d and %d", to.id, from.id, p, have.OwnRows, want.OwnRows)
		}
	}
	return nil
}

// settle waits until all replicas are equal, and checks what must hold then.
func (w *testWorld) settle() {
	w.t.Helper()
	eventually(w.t, w.settled)
	for _, r := range w.regions {
		for _, l := range r.Lag() {
			if l.Mismatches > 0 || l.State == replicator.StateDiverged {
				w.t.Errorf("%s of %s at %s: %d mismatches, %s %s", l.Stream, l.Origin, r.id, l.Mismatches, l.State, l.Reason)
			}
		}
	}
}

// executedOnce checks that every command of writes 0 to n-1 took effect once.
func (w *testWorld) executedOnce(n int) {
	w.t.Helper()
	for _, to := range w.regions {
		if n := to.ran.disordered(); n > 0 {
			w.t.Errorf("%d commands ran out of order in %s", n, to.id)
		}
		for _, from := range w.regions {
			for i := 0; from != to && i < n; i++ {
				if to.ran.ran(commandID(from.id, to.id, i)) == 0 {
					w.t.Errorf("command %d of %s never ran in %s", i, from.id, to.id)
				}
				row, err := to.store.Get(context.Background(), user(to.id, i%16), own, fmt.Appendf(nil, "inbox-%s-%d", from.id, i))
				if err != nil || row.Version != 1 {
					w.t.Errorf("command %d of %s took effect %d times in %s, %v", i, from.id, row.Version, to.id, err)
				}
			}
		}
	}
}

// eventually waits until the condition holds.
func eventually(t testing.TB, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", patience, err)
		}
		time.Sleep(2 * time.Millisecond) // between looks at the condition
	}
}

// noTail is a merger where nothing changes hands.
type noTail struct{}

func (noTail) Merge(context.Context, []*journal.Batch) error {
	return errors.New("there is no tail")
}
