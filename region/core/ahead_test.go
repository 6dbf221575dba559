package core

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

func counted(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	must(t, c.Write(&m))
	return m.Counter.GetValue()
}

// mayGoAhead is head.free under the sender's lock.
func (c *Core) mayGoAhead(h head, from, to region.UIN) bool {
	unlock, err := c.locks.lock(ctx, from)
	if err != nil {
		return false
	}
	defer unlock()
	return h.free(to, c.ahead[region.PartitionOf(from, partitions)])
}

// remembered sends first messages until the owner's go ahead.
func (u *universe) remembered(from, to *user) (sent int) {
	u.t.Helper()
	c := u.core(from.region)
	u.eventually("messages go ahead", func() error {
		before := counted(u.t, c.m.ahead)
		sent++
		u.send(from, to.UIN, fmt.Sprint("first ", sent), fmt.Sprint("first ", sent))
		if counted(u.t, c.m.ahead) == before {
			return fmt.Errorf("message %d did not", sent)
		}
		return nil
	})
	return sent
}

// TestGoesAhead: a message within the region is in the recipient's inbox with the
// same fsync, whether or not the journal is read; the command is in the journal
// all the same, the loop passes it without executing it, and its stored position
// is whole.
func TestGoesAhead(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	sent := u.remembered(alice, bob)
	c, s := u.core("sh"), u.sites["sh"].store
	ahead := counted(u.t, c.m.ahead)
	repeats := counted(u.t, c.m.commands.WithLabelValues("append", repeated))
	const n = 50
	for i := range n {
		u.eventually("nothing is behind", func() error { // the loop may have been sooner with one
			if h, ok := c.heads.Get(alice.UIN); !ok || !c.mayGoAhead(h, alice.UIN, bob.UIN) {
				return errors.New("the loop has something to do")
			}
			return nil
		})
		u.send(alice, bob.UIN, fmt.Sprint("m", i), fmt.Sprint("m", i))
	}
	// One that remembered sent may be counted behind its answer, as one of these.
	behind := max(0, n-(counted(u.t, c.m.ahead)-ahead))
	if behind > n/5 {
		t.Errorf("%v of %d messages did not go ahead", behind, n)
	}
	p := region.PartitionOf(alice.UIN, partitions)
	stream := streamTo("sh")
	u.eventually("the position is behind the last command", func() error {
		at, err := s.Position(ctx, "sh", stream, p)
		if err != nil {
			return err
		}
		batches, err := s.Journal(ctx, p, stream, at.Seq, 1<<20)
		if err != nil || len(batches) != 1 {
			return fmt.Errorf("%d batches from the position on, %v", len(batches), err)
		}
		want := journal.Position{Origin: "sh", Stream: stream, Partition: p, Incarnation: batches[0].Incarnation, Seq: batches[0].Last(), UnixMilli: batches[0].UnixMilli}
		for _, l := range batches[0].Links {
			if l.Stream == stream {
				want.Chain = l.Chain
			}
		}
		if at != want {
			t.Fatalf("position %+v, want %+v", at, want)
		}
		return nil
	})
	u.restart("sh")
	u.send(alice, bob.UIN, "after", "after")
	u.eventually("the message after a restart", func() error { return u.has(bob, "after") })
	if all, err := u.inbox(bob); err != nil || len(all) != sent+n+1 {
		t.Errorf("Bob has %d messages, %v; want %d", len(all), err, sent+n+1)
	}
	if got := counted(u.t, c.m.commands.WithLabelValues("append", repeated)); got-repeats > behind {
		t.Errorf("%v commands were executed twice", got-repeats)
	}
}

// TestNothingOvertakesTheLoop: while one message waits for the command loop,
// because the recipient's records are being changed, those behind it wait too.
func TestNothingOvertakesTheLoop(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	sent := u.remembered(alice, bob)
	c := u.core("sh")
	for round := range 20 {
		unlock, err := c.locks.lock(ctx, bob.UIN)
		must(t, err)
		u.send(alice, bob.UIN, fmt.Sprint(round, "a"), "waits")
		u.send(alice, bob.UIN, fmt.Sprint(round, "b"), "waits behind it")
		c.locks.mu.Lock()
		if n := c.locks.held[bob.UIN].flights; n > 0 {
			t.Errorf("round %d: %d messages went ahead to somebody whose records are being changed", round, n)
		}
		c.locks.mu.Unlock()
		unlock()
		u.send(alice, bob.UIN, fmt.Sprint(round, "c"), "follows")
		u.send(alice, bob.UIN, fmt.Sprint(round, "d"), "follows")
	}
	want := sent + 4*20
	u.eventually("all are there", func() error {
		if all, err := u.inbox(bob); err != nil || len(all) != want {
			return fmt.Errorf("%d of %d: %v", len(all), want, err)
		}
		return nil
	})
	theirs, err := u.inbox(bob)
	must(t, err)
	mine, err := u.inbox(alice)
	must(t, err)
	for i := range mine {
		if mine[i].ClientMessageId != theirs[i].ClientMessageId {
			t.Fatalf("place %d: Alice sent %s, Bob has %s", i, mine[i].ClientMessageId, theirs[i].ClientMessageId)
		}
	}
}

// TestAhead plays the meeting of a sender and the loop, in every order.
func TestAhead(t *testing.T) {
	receipt := func(follows, last uint64) store.Receipt {
		return store.Receipt{Follows: follows, First: last, Last: last}
	}
	a := newAhead()
	if a.passed(0) {
		t.Error("something is passed before there is a loop")
	}
	a.add(receipt(0, 3), new(delivery))
	if a.some() {
		t.Error("a command was noted before there is a loop")
	}
	a.reset(3, 4)
	if !a.passed(3) || a.passed(4) {
		t.Error("the loop begins at 4")
	}
	ended, flying := new(delivery), new(delivery)
	a.add(receipt(5, 8), flying) // noted first
	a.add(receipt(3, 5), ended)
	ended.end(nil)
	if some, end := a.take(3, 4); len(some) != 0 || end != 3 {
		t.Errorf("took %d up to %d of what is not durable", len(some), end)
	}
	some, end := a.take(3, 9)
	if len(some) != 2 || end != 8 || a.some() {
		t.Fatalf("took %d up to %d", len(some), end)
	}
	e := (&Core{o: Options{Clock: time.Now}}).await(some)
	select {
	case <-e.ended():
		t.Error("it ended before the second was durable")
	default:
	}
	flying.end(nil)
	<-e.ended()
	if err := e.finish(context.Background()); err != nil {
		t.Error(err)
	}
	a.add(receipt(5, 8), new(delivery))
	if a.some() {
		t.Error("a command was noted that the loop had taken")
	}

	// Of what is read, the loop executes what comes before the first that went ahead.
	batch := func(prev, seq uint64) *journal.Batch {
		return &journal.Batch{Links: []journal.Link{{Stream: journal.Full, Prev: seq - 1}, {Stream: streamTo("sh"), Prev: prev}}, Records: []journal.Record{{Seq: seq}}}
	}
	read := []*journal.Batch{batch(8, 10), batch(10, 12), batch(12, 14)}
	a.add(receipt(12, 14), new(delivery))
	if got := a.before(streamTo("sh"), read); len(got) != 2 {
		t.Errorf("%d batches before the one that went ahead, want 2", len(got))
	}
	if got := a.before(streamTo("sh"), read[2:]); len(got) != 1 || a.some() {
		t.Errorf("%d batches, and some is %v; want the first, and it forgotten", len(got), a.some())
	}

	failed := new(delivery)
	a.add(receipt(14, 16), failed)
	some, _ = a.take(14, 16)
	e = (&Core{o: Options{Clock: time.Now}}).await(some)
	failed.end(errCrash)
	if err := e.finish(context.Background()); err != errCrash {
		t.Errorf("a delivery that failed: %v", err)
	}
	a.reset(1<<63, 0)
	if a.passed(0) {
		t.Error("something is passed when the loop is gone")
	}
}
