package core

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/storetest"
	"github.com/homing-im/homing/region/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 4

func seededKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// universe is a world of regions in one process, joined by a relay that does
// what the replicator does: rows by Apply, commands by Execute.
type universe struct {
	t     testing.TB
	ids   *directory
	view  atomic.Pointer[region.View]
	moved chan struct{} // closed by setWorld
	mu    sync.Mutex    // guards moved
	sites map[region.ID]*site
	stop  context.CancelFunc
	relay sync.WaitGroup
	over  sync.Once

	backup map[region.ID]region.ID // who follows a region's full stream; set before anything runs
	cut    sync.Map                // region.ID to true: what left the region stops here
	fenced atomic.Bool             // no region admits
	disks  disks                   // set where a crash is a power cut: see reboot
	keep   time.Duration           // how long regions started from now on keep messages
	ahead  atomic.Int64            // nanoseconds by which the cores' clocks are ahead
}

// site is one region.
type site struct {
	id    region.ID
	store *faulty
	mu    sync.RWMutex // held while the core is replaced
	core  *Core
	heard *notices
}

func (s *site) get() *Core {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.core
}

// world puts every region in charge of itself, but those that acting names.
func testWorld(version uint64, acting map[region.ID]region.ID, ids ...region.ID) *region.View {
	w := &region.World{Version: version, Name: "test", Zone: "demo.test", Partitions: partitions}
	for i, id := range ids {
		a := region.Acting{Region: id, Counter: 1, Raised: new(region.Hash)}
		if other, ok := acting[id]; ok {
			a = region.Acting{Region: other, Counter: version, Raised: &region.Hash{1}}
		}
		w.Regions = append(w.Regions, region.Region{ID: id, Acting: a, Key: region.PublicKey(seededKey(string(id)).Public().(ed25519.PublicKey))})
		first := region.UIN(i+1) * 1_000_000
		w.Segments = append(w.Segments, region.Segment{First: first, Last: first + 999_999, Home: id})
	}
	return region.NewView(w, region.Hash{byte(version)}, nil)
}

func newUniverse(t testing.TB, ids ...region.ID) *universe {
	return newUniverseWith(t, inPebble, nil, ids...)
}

// engine opens a store that is gone after Close.
type engine func(testing.TB, region.ID) store.Store

func inPebble(t testing.TB, id region.ID) store.Store {
	s, err := pebble.Open(pebble.Options{Dir: "store", FS: vfs.NewMem(), MinFree: -1, Memory: 1 << 20, Region: id, Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func inMemory(_ testing.TB, id region.ID) store.Store {
	return storetest.NewMemory(storetest.Config{Region: id, Partitions: partitions, Now: time.Now})
}

// onDisk has real fsyncs.
func onDisk(t testing.TB, id region.ID) store.Store {
	s, err := pebble.Open(pebble.Options{Dir: t.TempDir(), Region: id, Partitions: partitions})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newUniverseWith(t testing.TB, open engine, backup map[region.ID]region.ID, ids ...region.ID) *universe {
	u := &universe{t: t, ids: newDirectory(ids...), sites: map[region.ID]*site{}, moved: make(chan struct{}), backup: backup}
	u.view.Store(testWorld(1, nil, ids...))
	for _, id := range ids {
		u.sites[id] = &site{id: id, store: &faulty{Store: open(t, id)}}
		u.start(id)
	}
	u.join()
	t.Cleanup(u.quit)
	return u
}

// join starts the relay between all regions.
func (u *universe) join() {
	ctx, stop := context.WithCancel(context.Background())
	u.stop = stop
	for _, from := range u.sites {
		for _, to := range u.sites {
			for p := range partitions {
				if from != to {
					u.relay.Add(1)
					go u.carry(ctx, from, to, region.Partition(p))
				}
			}
		}
	}
}

// reboot is a power cut of all regions: whatever was not synced is gone from
// their disks, and everything starts again from what is there.
func (u *universe) reboot() {
	u.stop()
	u.relay.Wait()
	for id, s := range u.sites {
		s.get().Close()
		fs := u.disks[id].CrashClone(vfs.CrashCloneCfg{})
		must(u.t, s.store.Store.Close())
		u.disks[id] = fs
		s.store = &faulty{Store: u.disks.reopen(u.t, id), plan: s.store.plan}
		u.start(id)
	}
	u.join()
}

// quit ends everything; the second time it does nothing.
func (u *universe) quit() {
	u.over.Do(func() {
		u.stop()
		u.relay.Wait()
		for _, s := range u.sites {
			s.get().Close()
			if err := s.store.Store.Close(); err != nil {
				u.t.Error(err)
			}
		}
	})
}

func (u *universe) changed() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.moved
}

func (u *universe) setWorld(v *region.View) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.view.Store(v)
	close(u.moved)
	u.moved = make(chan struct{})
}

func (u *universe) start(id region.ID) {
	s := u.sites[id]
	s.heard = &notices{}
	c, err := New(Options{Store: s.store, Self: id, Key: seededKey(string(id)), View: u.view.Load, Changed: u.changed,
		Directory: u.ids.of(id), Notifier: s.heard, Range: 200, Retention: u.keep,
		Clock: func() time.Time { return time.Now().Add(time.Duration(u.ahead.Load())) },
		Held: func(_ region.ID, p region.Partition) (Mark, bool) {
			to := u.sites[u.backup[id]]
			if to == nil {
				return Mark{}, false
			}
			at, err := to.store.Position(ctx, id, journal.Full, p)
			return Mark{at.Incarnation, at.Seq}, err == nil && at.Seq > 0
		},
		Admitting: func() error {
			if u.fenced.Load() {
				return errors.New("no majority")
			}
			return nil
		}})
	if err != nil {
		u.t.Fatal(err)
	}
	s.mu.Lock()
	s.core = c
	s.mu.Unlock()
}

// restart is a crash and a new start of a region's core on the same store.
func (u *universe) restart(id region.ID) {
	s := u.sites[id]
	s.get().Close()
	s.store.heal()
	u.start(id)
}

func (u *universe) core(id region.ID) *Core { return u.sites[id].get() }

// carry copies one partition from one region to another until ctx ends.
func (u *universe) carry(ctx context.Context, from, to *site, p region.Partition) {
	defer u.relay.Done()
	for ctx.Err() == nil {
		grown, world := from.store.Changed(p), u.changed()
		if err := u.carryOnce(ctx, from, to, p); err != nil {
			select { // try again soon
			case <-ctx.Done():
			case <-time.After(2 * time.Millisecond):
			}
			continue
		}
		select {
		case <-ctx.Done():
		case <-grown:
		case <-world:
		}
	}
}

func (u *universe) carryOnce(ctx context.Context, from, to *site, p region.Partition) error {
	v := u.view.Load()
	rows := journal.Shared
	if u.backup[from.id] == to.id {
		rows = journal.Full
	}
	streams := []journal.Stream{rows}
	if acting, _, _ := v.Acting(from.id); acting == from.id { // a region that was failed over ships nothing here
		for _, r := range v.World.Regions {
			if r.Acting.Region == to.id {
				streams = append(streams, journal.StreamTo(r.ID))
			}
		}
	}
	for _, s := range streams {
		for {
			at, err := to.store.Position(ctx, from.id, s, p)
			if err != nil {
				return err
			}
			batches, err := from.store.Journal(ctx, p, s, at.Seq+1, 1<<20)
			if err != nil {
				return err
			}
			if _, cut := u.cut.Load(from.id); cut || len(batches) == 0 {
				break // looked at after reading: what is written behind a cut never leaves
			}
			if s == rows {
				if _, err := to.store.Apply(ctx, s, batches); err != nil {
					return err
				}
				continue
			}
			if err := to.get().Execute(ctx, batches); err != nil {
				return err
			}
			b := batches[len(batches)-1]
			pos := journal.Position{Origin: from.id, Stream: s, Partition: p, Incarnation: b.Incarnation, Seq: b.Last(), Chain: b.Links[0].Chain}
			if err := to.store.SetPosition(ctx, pos); err != nil {
				return err
			}
		}
	}
	return nil
}

// user is a client of the tests.
type user struct {
	Caller
	key    ed25519.PrivateKey
	region region.ID
	ticket string
}

func (u *universe) register(id region.ID, name string) *user {
	u.t.Helper()
	key := seededKey("device of " + name)
	public := key.Public().(ed25519.PublicKey)
	var resp *v1.RegisterResponse
	u.retry(func() (err error) {
		resp, err = u.core(id).Register(context.Background(), Caller{}, &v1.RegisterRequest{Nickname: name, DeviceKey: public, Platform: "cli", IdempotencyKey: name})
		return err
	})
	return &user{Caller: Caller{UIN: region.UIN(resp.Uin), DeviceKeyID: wire.KeyID(public)}, key: key, region: id, ticket: resp.Ticket}
}

// retry repeats what a crash interrupted, as a client would.
func (u *universe) retry(f func() error) {
	u.t.Helper()
	for range 1000 {
		err := f()
		if err == nil {
			return
		}
		if !errors.Is(err, errCrash) && !region.KindOf(err).Retryable() && !errors.Is(err, context.Canceled) {
			u.t.Fatalf("%v: %v", region.KindOf(err), err)
		}
		u.revive()
	}
	u.t.Fatal("it never succeeds")
}

// revive starts again what crashed.
func (u *universe) revive() {
	for id, s := range u.sites {
		switch {
		case !s.store.isDead():
		case u.disks != nil:
			u.reboot()
			return
		default:
			u.restart(id)
		}
	}
}

// eventually waits for a condition, reviving regions meanwhile.
func (u *universe) eventually(what string, cond func() error) {
	u.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		u.revive()
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			u.t.Fatalf("%s: %v", what, err)
		}
		<-tick.C
	}
}

func (u *universe) send(from *user, to region.UIN, id, text string) *v1.SendResponse {
	u.t.Helper()
	var resp *v1.SendResponse
	u.retry(func() (err error) {
		resp, err = u.core(from.region).Send(context.Background(), from.Caller, textTo(to, id, text))
		return err
	})
	return resp
}

func textTo(to region.UIN, id, text string) *v1.SendRequest {
	return &v1.SendRequest{To: uint64(to), ClientMessageId: id, Body: &v1.Body{Kind: &v1.Body_Text{Text: text}}}
}

// inbox reads all of a user's messages by Sync, and holds that it is dense.
func (u *universe) inbox(who *user) ([]*v1.Message, error) {
	var all []*v1.Message
	var snapshot []byte
	for {
		r, err := u.core(who.region).Sync(context.Background(), who.Caller, &v1.SyncRequest{Snapshot: snapshot, MaxBytes: 700})
		if err != nil {
			return nil, err
		}
		for _, m := range r.Messages {
			if m.Sequence != uint64(len(all)+1) {
				return nil, fmt.Errorf("user %d: sequence %d after %d", who.UIN, m.Sequence, len(all))
			}
			all = append(all, m)
		}
		snapshot = r.Snapshot
		if !r.More {
			return all, nil
		}
	}
}

// has wants each of the texts in the inbox exactly once, and no message twice.
func (u *universe) has(who *user, texts ...string) error {
	all, err := u.inbox(who)
	if err != nil {
		return err
	}
	count := map[string]int{}
	seen := map[string]bool{}
	for _, m := range all {
		if seen[string(m.Id)] {
			return fmt.Errorf("user %d: message %x twice", who.UIN, m.Id)
		}
		seen[string(m.Id)] = true
		id := MessageID(region.UIN(m.Sender), m.ClientMessageId)
		if !bytes.Equal(m.Id, id[:]) {
			return fmt.Errorf("message %x has another's ID", m.Id)
		}
		if s := m.Body.GetSystem(); s != nil {
			count["/"+s.Event]++
		} else {
			count[m.Body.GetText()]++
		}
	}
	for _, s := range texts {
		if count[s] != 1 {
			return fmt.Errorf("user %d in %s: %q is there %d times among %d", who.UIN, who.region, s, count[s], len(all))
		}
	}
	return nil
}

func wantKind(t *testing.T, err error, want region.Kind) {
	t.Helper()
	if region.KindOf(err) != want {
		t.Fatalf("error is %v (%v), want %v", region.KindOf(err), err, want)
	}
	var e *region.Error
	if errors.As(err, &e) && e.Hint == "" && want != region.Conflict {
		t.Errorf("no hint: %v", err)
	}
}
