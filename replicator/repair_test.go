package replicator_test

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	_ "github.com/lib/pq"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/dump"
	"github.com/homing-im/homing/region/store/mend"
	enginepebble "github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/postgres"
	"github.com/homing-im/homing/replicator"
)

// rows commits the n-th change of a home at this region, without commands.
func (r *testRegion) rows(home region.ID, epoch region.Epoch, n int) {
	r.w.t.Helper()
	_, err := r.store.Commit(context.Background(), &store.Batch{Owner: user(home, n%16), Home: home, Epoch: epoch, Writes: []store.Write{
		{Table: shared, Row: fmt.Append(nil, "profile-", n%5), Value: fmt.Append(nil, "shared value ", n)},
		{Table: own, Row: fmt.Append(nil, "contact-", n%7), Value: fmt.Append(nil, "own value ", n)},
	}})
	if err != nil {
		r.w.t.Fatal(err)
	}
}

// repair runs one at a region.
func (r *testRegion) repair(origin region.ID, try bool, partitions ...region.Partition) []mend.Report {
	r.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out []mend.Report
	if err := r.Replay().Repair(ctx, origin, partitions, try, func(m mend.Report) { out = append(out, m) }); err != nil {
		r.w.t.Fatal(err)
	}
	return out
}

// lagOf returns how a row stream of an origin stands in a partition.
func (r *testRegion) lagOf(origin region.ID, p region.Partition) replicator.PartitionLag {
	for _, l := range r.Lag() {
		if _, command := l.Stream.To(); l.Origin == origin && !command {
			return l.Partitions[p]
		}
	}
	return replicator.PartitionLag{}
}

// TestChangedBehindTheBack changes one row of a replica in its database. Soon the
// alarm names the partition; a repair makes both equal.
func TestChangedBehindTheBack(t *testing.T) {
	victim := user("sh", 3)
	in := region.PartitionOf(victim, partitions)
	check := func(t *testing.T, w *testWorld, change func()) {
		sh, hk := w.regions["sh"], w.regions["hk"]
		for i := range 100 {
			sh.rows("sh", region.Epoch{}, i)
		}
		w.settle()
		if d := hk.Status().Damaged; len(d) > 0 {
			t.Fatalf("damaged before anything was: %v", d)
		}
		start := time.Now()
		change()
		began := time.Now()
		eventually(t, func() error {
			if l := hk.lagOf("sh", in); l.State != replicator.StateDiffers || !strings.Contains(l.Reason, "home sh") {
				return fmt.Errorf("partition %d is %s %s", in, l.State, l.Reason)
			}
			return nil
		})
		t.Logf("noticed %v after the change, which took %v", time.Since(began), began.Sub(start))
		if took := time.Since(began); took > 10*time.Second { // 3 s on a machine that has nothing else to do
			t.Errorf("noticed after %v", took)
		}
		if d := hk.Status().Damaged; len(d) != 1 || d[0] != (replicator.Damage{Partition: in, Home: "sh"}) {
			t.Errorf("damaged: %v, want sh in partition %d", d, in)
		}
		for _, m := range hk.repair("sh", true) {
			if want := m.Partition != in; m.Equal() != want {
				t.Errorf("compared: %+v, equal should be %t", m, want)
			}
		}
		if got := hk.repair("sh", false, in); len(got) != 1 || got[0].Owners != 1 || got[0].Other != 1 {
			t.Errorf("repaired: %+v, want one row of one owner", got)
		}
		for i := range 50 { // the watermarks of what is written next agree
			sh.rows("sh", region.Epoch{}, i)
		}
		eventually(t, w.settled)
		eventually(t, func() error {
			if l, d := hk.lagOf("sh", in), hk.Status().Damaged; l.State != replicator.StateLive || len(d) > 0 {
				return fmt.Errorf("partition %d is %s %s; damaged %v", in, l.State, l.Reason, d)
			}
			return nil
		})
		for p := range partitions {
			if d, err := dump.Scan(context.Background(), hk.store.(dump.Source), region.Partition(p)); err != nil || len(d) > 0 {
				t.Errorf("partition %d: %v, %v", p, d, err)
			}
		}
	}
	t.Run("embedded", func(t *testing.T) {
		w := newWorld(t, "sh", "hk")
		w.onDisk()
		w.start()
		hk := w.regions["hk"]
		check(t, w, func() {
			hk.stopReplicator()
			if err := hk.store.Close(); err != nil {
				t.Fatal(err)
			}
			db, err := pebble.Open(hk.storeDir, &pebble.Options{FormatMajorVersion: pebble.FormatNewest, Logger: quiet{}})
			if err != nil {
				t.Fatal(err)
			}
			changeRow(t, db, victim)
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			hk.openStore()
			hk.startReplicator()
		})
	})
	t.Run("postgres", func(t *testing.T) {
		if err := pgtest.Available(); err != nil {
			t.Skip(err)
		}
		server, err := pgtest.New(pgtest.Memory())
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := server.Stop(); err != nil {
				t.Error(err)
			}
			_ = os.RemoveAll(server.Dir)
		})
		w := newWorld(t, "sh", "hk")
		w.regions["sh"].storeDir = t.TempDir()
		w.regions["sh"].openStore()
		hk := w.regions["hk"]
		s, err := postgres.Open(postgres.Options{DSNs: []string{server.DSN()}, Region: "hk", Partitions: partitions, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		hk.store, hk.ran.store = s, s
		for _, r := range w.regions {
			t.Cleanup(func() { _ = r.store.Close() })
		}
		w.start()
		check(t, w, func() {
			db, err := sql.Open("postgres", server.DSN())
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			res, err := db.Exec(`UPDATE homing_row SET value = value || 'x'::bytea WHERE owner = $1 AND tab = $2 AND key = 'profile-3'`, int64(victim), int(shared))
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := res.RowsAffected(); n != 1 {
				t.Fatalf("%d rows were changed, want 1", n)
			}
		})
	})
}

// quiet is a logger for who needs one.
type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// changeRow changes the value of one shared row of an owner, in the embedded
// engine's own files.
func changeRow(t *testing.T, db *pebble.DB, owner region.UIN) {
	t.Helper()
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'r'}, UpperBound: []byte{'s'}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = it.Close() }()
	changed := false
	for it.First(); it.Valid() && !changed; it.Next() {
		if u := region.UIN(0); bytes.Contains(it.Value(), []byte("shared value")) {
			for _, b := range it.Key()[3:11] {
				u = u<<8 | region.UIN(b)
			}
			if u != owner {
				continue
			}
			v := bytes.Clone(it.Value())
			v[len(v)-1] ^= 1
			if err := db.Set(it.Key(), v, pebble.Sync); err != nil {
				t.Fatal(err)
			}
			changed = true
		}
	}
	if !changed {
		t.Fatalf("owner %d has no row to change", owner)
	}
}

// TestTrimmedJournalIsBootstrapped starts a backup that has nothing when the
// origin's journal and queue no longer have the beginning.
func TestTrimmedJournalIsBootstrapped(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.onDisk()
	sh, hk := w.regions["sh"], w.regions["hk"]
	for i := range 200 {
		sh.rows("sh", region.Epoch{}, i)
	}
	for p := range region.Partition(partitions) {
		if err := sh.store.Trim(context.Background(), p, sh.store.Head(p).Next); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		sh.rows("sh", region.Epoch{}, i)
	}
	w.start()
	eventually(t, w.settled)
	for i := range 50 {
		sh.rows("sh", region.Epoch{}, i)
		hk.write(i)
	}
	w.settle()
}

// TestDivergedIsRepaired restores an origin to an older state. Its replica stops,
// keeps what it has, says so, and follows again once an operator has it repaired.
func TestDivergedIsRepaired(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.onDisk()
	w.start()
	sh, hk := w.regions["sh"], w.regions["hk"]
	for i := range 40 {
		sh.rows("sh", region.Epoch{}, i)
	}
	w.settle()
	var old bytes.Buffer
	if _, err := dump.Write(context.Background(), &old, sh.store.(dump.Source), false, time.Now()); err != nil {
		t.Fatal(err)
	}
	for i := range 80 {
		sh.rows("sh", region.Epoch{}, i)
	}
	w.settle()
	sh.stopReplicator()
	if err := sh.store.Close(); err != nil {
		t.Fatal(err)
	}
	sh.storeDir = t.TempDir()
	sh.load(&old)
	sh.openStore()
	sh.startReplicator()
	in := region.PartitionOf(user("sh", 0), partitions)
	eventually(t, func() error {
		if l := hk.lagOf("sh", in); l.State != replicator.StateDiverged {
			return fmt.Errorf("partition %d is %s %s", in, l.State, l.Reason)
		}
		return nil
	})
	before := hk.store.Sums(in, "sh")
	if got := hk.repair("sh", true, in); len(got) != 1 || got[0].Newer == 0 {
		t.Errorf("compared: %+v, want rows that are newer here", got)
	}
	if l := hk.lagOf("sh", in); l.State != replicator.StateDiverged || hk.store.Sums(in, "sh") != before {
		t.Errorf("after a look: %s, sums changed: %t", l.State, hk.store.Sums(in, "sh") != before)
	}
	hk.repair("sh", false)
	eventually(t, w.settled)
	for i := range 50 {
		sh.rows("sh", region.Epoch{}, i)
	}
	w.settle()
}

// load fills a region's new directory with a dump.
func (r *testRegion) load(from *bytes.Buffer) {
	r.w.t.Helper()
	d, err := dump.Open(from)
	if err != nil {
		r.w.t.Fatal(err)
	}
	to, err := enginepebble.Load(enginepebble.Options{Dir: r.storeDir, Region: r.id, Partitions: partitions})
	if err != nil {
		r.w.t.Fatal(err)
	}
	if _, err := d.CopyTo(context.Background(), to); err != nil {
		r.w.t.Fatal(err)
	}
	if err := to.Commit(); err != nil {
		r.w.t.Fatal(err)
	}
}

// TestNewBackupIsBootstrapped has hk take sh over, and ca become hk's backup: it
// gets the own rows that sh wrote before, which hk's journal never had.
func TestNewBackupIsBootstrapped(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.onDisk()
	w.start()
	sh, hk, ca := w.regions["sh"], w.regions["hk"], w.regions["ca"]
	for i := range 100 {
		sh.rows("sh", region.Epoch{}, i)
	}
	w.settle()
	sh.stopReplicator()
	sh.down.set(true)
	term := region.Term{Counter: 1, Raised: region.ShortHash{1}}
	for _, r := range []*testRegion{hk, ca} {
		if err := r.store.Fence(context.Background(), "sh", term); err != nil {
			t.Fatal(err)
		}
	}
	for p := range region.Partition(partitions) {
		err := hk.store.Handover(context.Background(), p, store.Handover{TermRecord: journal.TermRecord{Home: "sh", Term: term, What: store.Takeover}, Before: "sh"})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.become(func(world *region.World) {
		world.Regions[0].Acting = region.Acting{Region: "hk", Counter: 1}
	})
	hk.rows("sh", region.Epoch{Term: term}, 5)
	eventually(t, func() error {
		for p := range region.Partition(partitions) {
			if want, have := hk.store.Sums(p, "sh"), ca.store.Sums(p, "sh"); want != have {
				return fmt.Errorf("partition %d: ca has %d own rows of sh, hk %d", p, have.OwnRows, want.OwnRows)
			}
		}
		return nil
	})
	for i := range 50 {
		hk.rows("sh", region.Epoch{Term: term}, i)
	}
	eventually(t, func() error {
		for p := range region.Partition(partitions) {
			if want, have := hk.store.Sums(p, "sh"), ca.store.Sums(p, "sh"); want != have {
				return fmt.Errorf("partition %d: ca differs", p)
			}
			if l := ca.lagOf("hk", p); l.State != replicator.StateLive {
				return fmt.Errorf("partition %d at ca is %s %s", p, l.State, l.Reason)
			}
		}
		return nil
	})
}

// TestNamedBackup has a world name ca as sh's new backup while hk acts for it, and
// people write all the time. Until ca has compared the rows it says that it is
// being begun, however short its lag; then it is equal.
func TestNamedBackup(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.onDisk()
	w.become(func(world *region.World) { world.Regions[1].Backups = []region.ID{"sh", "ca"} }) // ca has no copy of hk
	w.start()
	sh, hk, ca := w.regions["sh"], w.regions["hk"], w.regions["ca"]
	for i := range 100 {
		sh.rows("sh", region.Epoch{}, i)
	}
	w.settle()
	sh.stopReplicator()
	sh.down.set(true)
	w.become(func(world *region.World) {
		world.Regions[0].Acting, world.Regions[0].NewBackup = region.Acting{Region: "hk", Counter: 2}, "ca"
	})
	_, term, _ := w.View().Acting("sh")
	states := func(want replicator.State) func() error {
		return func() error {
			for p := range region.Partition(partitions) {
				if l := ca.lagOf("hk", p); l.State != want {
					return fmt.Errorf("partition %d at ca is %s %s, want %s", p, l.State, l.Reason, want)
				}
			}
			return nil
		}
	}
	eventually(t, states(replicator.StateBootstrap))
	for _, r := range []*testRegion{hk, ca} {
		if err := r.store.Fence(context.Background(), "sh", term); err != nil {
			t.Fatal(err)
		}
	}
	for p := range region.Partition(partitions) {
		if err := states(replicator.StateBootstrap)(); err != nil {
			t.Error(err)
		}
		err := hk.store.Handover(context.Background(), p, store.Handover{TermRecord: journal.TermRecord{Home: "sh", Term: term, What: store.Takeover}, Before: "sh"})
		if err != nil {
			t.Fatal(err)
		}
	}
	writing, stop := context.WithCancel(context.Background())
	wrote := make(chan int)
	go func() {
		n := 0
		defer func() { wrote <- n }()
		for ; writing.Err() == nil; n++ {
			hk.rows("sh", region.Epoch{Term: term}, n)
			select {
			case <-time.After(5 * time.Millisecond):
			case <-writing.Done():
			}
		}
	}()
	eventually(t, states(replicator.StateLive))
	stop()
	if n := <-wrote; n < 2*partitions {
		t.Errorf("%d writes meanwhile: it was not under way", n)
	}
	eventually(t, func() error {
		for p := range region.Partition(partitions) {
			if want, have := hk.store.Sums(p, "sh"), ca.store.Sums(p, "sh"); want != have || want.OwnRows == 0 {
				return fmt.Errorf("partition %d: ca has %d own rows of sh, hk %d", p, have.OwnRows, want.OwnRows)
			}
		}
		return nil
	})
}

// TestPartsAreAsked asks the handler for parts that it must refuse.
func TestPartsAreAsked(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.onDisk()
	h := replicator.PartHandler(w.regions["sh"].store.(dump.Source), nil)
	for query, want := range map[string]int{
		"partition=0&homes=sh":   http.StatusOK,
		"partition=99&homes=sh":  http.StatusBadRequest,
		"partition=-1&homes=sh":  http.StatusBadRequest,
		"partition=0&homes=S%2F": http.StatusBadRequest,
		"":                       http.StatusBadRequest,
	} {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/part?"+query, nil))
		if rec.Code != want {
			t.Errorf("/part?%s: %d %s, want %d", query, rec.Code, rec.Body, want)
		}
	}
}
