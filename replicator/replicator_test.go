package replicator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store/pebble"
	"github.com/homing-im/homing/region/store/storetest"
	"github.com/homing-im/homing/replicator"
	"github.com/homing-im/homing/replicator/kafka"
)

func TestThreeRegionsBecomeEqual(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.start()
	const n = 200
	for i := range n {
		for _, r := range w.regions {
			r.write(i)
		}
	}
	w.settle()
	w.executedOnce(n)
	for _, r := range w.regions {
		for _, l := range r.Lag() {
			if l.Quarantined > 0 {
				t.Errorf("%s of %s at %s: %d quarantined", l.Stream, l.Origin, r.id, l.Quarantined)
			}
		}
		for id, times := range r.ran.times {
			if times != 1 {
				t.Errorf("command %x ran %d times on a healthy queue", id, times)
			}
		}
	}
	// Lag falls to nothing, and says so.
	eventually(t, func() error {
		for _, r := range w.regions {
			for _, l := range r.Lag() {
				if l.Records > 0 || l.State != replicator.StateLive {
					return fmt.Errorf("%s of %s at %s: lag %d, %s %s", l.Stream, l.Origin, r.id, l.Records, l.State, l.Reason)
				}
			}
		}
		return nil
	})
}

func TestReplayLatency(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.start()
	sh, hk := w.regions["sh"], w.regions["hk"]
	sh.write(0)
	w.settle()
	var took []time.Duration
	for i := 1; i <= 50; i++ {
		start := time.Now()
		sh.write(i)
		for hk.ran.ran(commandID("sh", "hk", i)) == 0 {
			if time.Since(start) > patience {
				t.Fatal("never ran")
			}
			time.Sleep(100 * time.Microsecond) // between looks
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	t.Logf("commit to executed in the other region: median %v, worst %v", took[25], took[49])
	if took[25] > 100*time.Millisecond {
		t.Errorf("median %v: want a few tens of milliseconds at most", took[25])
	}
}

func (e *executor) ran(id journal.CommandID) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.times[id]
}

// TestBrokerDisasters kills the brokers in every way while there is traffic, and
// wants the replicas equal afterwards.
func TestBrokerDisasters(t *testing.T) {
	for name, disaster := range map[string]func(*testRegion){
		"restarted":   func(*testRegion) {},
		"wiped":       func(r *testRegion) { _ = os.RemoveAll(r.dir) },
		"made junk":   junk,
		"cut shorter": cut,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "sh", "hk", "ca")
			w.start()
			n := 0
			traffic := func(k int) {
				for range k {
					for _, r := range w.regions {
						r.write(n)
					}
					n++
				}
			}
			for round := range 3 {
				traffic(40)
				if round == 1 {
					w.settle()
				}
				for _, r := range w.regions {
					_ = r.broker.Close()
				}
				traffic(20)
				for _, r := range w.regions {
					disaster(r)
					r.startBroker()
				}
			}
			traffic(40)
			w.settle()
			w.executedOnce(n)
		})
	}
}

// junk overwrites the middle of every log file.
func junk(r *testRegion) {
	for _, f := range logFiles(r) {
		data, err := os.ReadFile(f)
		if err != nil {
			r.w.t.Fatal(err)
		}
		for i := len(data) / 3; i < len(data)/2; i++ {
			data[i] = byte(rand.Int())
		}
		if err := os.WriteFile(f, data, 0o600); err != nil {
			r.w.t.Fatal(err)
		}
	}
}

// cut takes the second half of every log file.
func cut(r *testRegion) { cutFiles(r.w.t, logFiles(r)) }

// TestQueueUnreachable: without any broker the origins' journals carry all.
func TestQueueUnreachable(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	for _, r := range w.regions {
		_ = r.broker.Close()
	}
	w.start()
	for i := range 50 {
		for _, r := range w.regions {
			r.write(i)
		}
	}
	w.settle()
	w.executedOnce(50)
	for _, r := range w.regions {
		fills := uint64(0)
		for _, l := range r.Lag() {
			fills += l.GapFills
		}
		if fills == 0 {
			t.Errorf("%s has no gap fills", r.id)
		}
		r.startBroker()
	}
	w.regions["sh"].write(50)
	w.regions["hk"].write(50)
	w.settle()
	// The queue has everything from the beginning, and is read again.
	q, err := kafka.New(kafka.Options{Brokers: []string{w.regions["sh"].queue}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	eventually(t, func() error {
		for _, s := range w.regions["sh"].Shipper().Status() {
			if s.Shipped != s.Head || s.Error != "" {
				return fmt.Errorf("partition %d shipped %d of %d: %s", s.Partition, s.Shipped, s.Head, s.Error)
			}
		}
		return nil
	})
}

// TestHostileQueue has a writer beside the shipper that repeats, reorders,
// alters and invents messages.
func TestHostileQueue(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.start()
	sh := w.regions["sh"]
	q, err := kafka.New(kafka.Options{Brokers: []string{sh.queue}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	round := func(i int) {
		sh.write(i)
		meddle(sh, "hk", q, rng, i > 10) // before, the shipper may not have made the topics
	}
	for i := range 100 {
		round(i)
	}
	w.regions["hk"].write(0)
	w.settle()
	hk := w.regions["hk"]
	var quarantined, duplicates uint64
	// On a busy machine gap filling may have overtaken the queue, which is then
	// read from behind the junk: there is more.
	for i := 100; i < 400 && (quarantined == 0 || duplicates == 0); i++ {
		quarantined, duplicates = 0, 0
		for _, l := range hk.Lag() {
			quarantined += l.Quarantined
			duplicates += l.Duplicates
		}
		round(i)
		w.settle()
	}
	if quarantined == 0 || duplicates == 0 {
		t.Errorf("%d quarantined, %d duplicates: the hostile writer was not noticed", quarantined, duplicates)
	}
	for i := range 100 {
		if hk.ran.ran(commandID("sh", "hk", i)) == 0 {
			t.Errorf("command %d never ran", i)
		}
	}
}

// meddle writes beside the shipper of a region: its batches again, in any order,
// altered, cut, under other keys.
func meddle(r *testRegion, to region.ID, q *kafka.Queue, rng *rand.Rand, must bool) {
	r.w.t.Helper()
	ctx := context.Background()
	for p := range partitions {
		for _, s := range []journal.Stream{journal.Full, journal.StreamTo(to)} {
			all, err := r.store.Journal(ctx, region.Partition(p), s, 1, 1<<30)
			if err != nil || len(all) == 0 {
				continue
			}
			run := replicator.Run{TopicPartition: replicator.TopicPartition{Topic: journal.Topic(r.id, s), Partition: region.Partition(p)}}
			for range 3 {
				b := all[rng.IntN(len(all))]
				m := replicator.Message{Key: journal.QueueKey(b), Value: journal.Encode(b)}
				switch rng.IntN(5) {
				case 0:
					m.Value[rng.IntN(len(m.Value))] ^= 1 << rng.IntN(8)
				case 1:
					m.Value = m.Value[:rng.IntN(len(m.Value))]
				case 2:
					m.Key = []byte("999999-1000000")
				}
				run.Messages = append(run.Messages, m)
			}
			if _, err := q.Produce(ctx, []replicator.Run{run}); err != nil && must {
				r.w.t.Fatal(err)
			}
		}
	}
}

// TestRestartsOfReplicators: what was applied is not lost, and what is repeated
// has no effect.
func TestRestartsOfReplicators(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.start()
	n := 0
	for round := range 5 {
		for range 30 {
			for _, r := range w.regions {
				r.write(n)
			}
			n++
		}
		if round == 2 {
			w.settle()
		}
		for _, r := range w.regions {
			r.stopReplicator()
			r.startReplicator()
		}
	}
	w.settle()
	w.executedOnce(n)
}

// TestDivergedOriginHaltsOnlyItself replaces an origin's store by one with
// another history.
func TestDivergedOriginHaltsOnlyItself(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.start()
	for i := range 32 {
		for _, r := range w.regions {
			r.write(i)
		}
	}
	w.settle()
	sh, hk, ca := w.regions["sh"], w.regions["hk"], w.regions["ca"]
	sh.stopReplicator()
	sh.server.Config.Handler = nil
	sh.store = storetest.NewMemory(storetest.Config{Region: "sh", Partitions: partitions, Now: time.Now})
	sh.server.Config.Handler = replicator.JournalHandler(sh.store, nil)
	for i := 1000; i < 1200; i++ {
		sh.write(i)
	}
	sh.ran.store = sh.store
	sh.startReplicator()
	eventually(t, func() error {
		for _, r := range []*testRegion{hk, ca} {
			for _, l := range r.Lag() {
				if l.Origin != "sh" {
					continue
				}
				for _, p := range l.Partitions {
					if p.Position > 0 && p.State != replicator.StateDiverged {
						return fmt.Errorf("%s of sh/%d at %s is %s", l.Stream, p.Partition, r.id, p.State)
					}
				}
			}
		}
		return nil
	})
	for i := 32; i < 64; i++ {
		hk.write(i)
		ca.write(i)
	}
	eventually(t, func() error {
		if err := w.equal(hk, ca); err != nil {
			return err
		}
		return w.equal(ca, hk)
	})
}

func TestPause(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.start()
	sh, hk := w.regions["sh"], w.regions["hk"]
	sh.write(0)
	w.settle()

	hk.Replay().Pause()
	sh.write(1)
	eventually(t, func() error {
		for _, l := range hk.Lag() {
			if l.State == replicator.StatePaused && l.Records > 0 {
				return nil
			}
		}
		return fmt.Errorf("no lag is seen: %+v", hk.Lag())
	})
	if hk.ran.ran(commandID("sh", "hk", 1)) > 0 {
		t.Error("a command ran while replay was paused")
	}
	hk.Replay().Resume()
	w.settle()

	sh.Shipper().Pause()
	sh.down.set(true) // else the journal would carry it
	sh.write(2)
	hk.write(2)
	eventually(t, func() error { return w.equal(hk, sh) })
	if hk.ran.ran(commandID("sh", "hk", 2)) > 0 {
		t.Error("a command arrived while its shipper was paused and its journal down")
	}
	sh.Shipper().Resume()
	eventually(t, func() error { return w.equal(sh, hk) })
	sh.down.set(false)
	w.settle()
}

// TestWorldChangeMovesCommands: when hk acts for sh, it replays what ca asks of
// sh.
func TestWorldChangeMovesCommands(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.start()
	sh, hk, ca := w.regions["sh"], w.regions["hk"], w.regions["ca"]
	for i := range 20 {
		ca.write(i)
	}
	w.settle()
	sh.stopReplicator()
	w.become(func(next *region.World) { next.Regions[0].Acting = region.Acting{Region: "hk", Counter: 1} })
	for i := 20; i < 40; i++ {
		ca.write(i)
	}
	eventually(t, func() error {
		for i := 20; i < 40; i++ {
			if hk.ran.ran(commandID("ca", "sh", i)) == 0 {
				return fmt.Errorf("command %d of ca to sh never ran in hk", i)
			}
		}
		return nil
	})
	for _, l := range hk.Lag() {
		if l.Origin == "sh" && l.Stream == journal.StreamTo("ca") {
			t.Errorf("hk replays %s of sh", l.Stream)
		}
	}
}

// TestExecutorRefuses: while commands cannot run, their partition stalls
// visibly, and goes on by itself.
func TestExecutorRefuses(t *testing.T) {
	w := newWorld(t, "sh", "hk")
	w.start()
	sh, hk := w.regions["sh"], w.regions["hk"]
	hk.ran.refuse(errors.New("not now"))
	for i := range 20 {
		sh.write(i)
		hk.write(i)
	}
	eventually(t, func() error {
		for _, l := range hk.Lag() {
			if l.Stream == journal.StreamTo("hk") && l.State == replicator.StateStalled && strings.Contains(l.Reason, "not now") {
				return nil
			}
		}
		return fmt.Errorf("it does not show: %+v", hk.Lag())
	})
	for p := range partitions {
		if at, _ := hk.store.Position(context.Background(), "sh", journal.StreamTo("hk"), region.Partition(p)); at.Seq > 0 {
			t.Errorf("position of partition %d moved to %d although nothing ran", p, at.Seq)
		}
	}
	hk.ran.refuse(nil)
	w.settle()
	w.executedOnce(20)
}

func (e *executor) refuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fail = err
}

// TestOnTheEmbeddedEngine runs the world on the engine that nodes run on, and
// closes and opens the stores in between.
func TestOnTheEmbeddedEngine(t *testing.T) {
	w := newWorld(t, "sh", "hk", "ca")
	w.onDisk()
	w.start()
	n := 0
	for range 3 {
		for range 50 {
			for _, r := range w.regions {
				r.write(n)
			}
			n++
		}
		for _, r := range w.regions {
			r.stopReplicator()
			r.down.set(true)
		}
		for _, r := range w.regions {
			r.reopenStore()
			r.down.set(false)
			r.startReplicator()
		}
	}
	w.settle()
	w.executedOnce(n)
}

// onDisk gives all regions, before they start, stores of the embedded engine.
func (w *testWorld) onDisk() {
	w.t.Helper()
	for _, r := range w.regions {
		r.storeDir = w.t.TempDir()
		r.openStore()
		w.t.Cleanup(func() { _ = r.store.Close() })
	}
}

func (r *testRegion) openStore() {
	r.w.t.Helper()
	s, err := pebble.Open(pebble.Options{Dir: r.storeDir, Region: r.id, Partitions: partitions})
	if err != nil {
		r.w.t.Fatal(err)
	}
	r.store, r.ran.store = s, s
	r.down.serve(replicator.JournalHandler(s, nil))
}

func (r *testRegion) reopenStore() {
	r.w.t.Helper()
	if err := r.store.Close(); err != nil {
		r.w.t.Fatal(err)
	}
	r.openStore()
}
