package core

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// slow is a store whose disk takes as long as the test wants: nobody is told of
// what was submitted before let is called.
type slow struct {
	store.Store
	mu      sync.Mutex
	waiting []func()
	held    bool
}

func (s *slow) Submit(ctx context.Context, b *store.Batch, then func(store.Receipt, error)) error {
	return s.Store.(store.Submitter).Submit(ctx, b, func(r store.Receipt, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.held {
			s.waiting = append(s.waiting, func() { then(r, err) })
		} else {
			then(r, err)
		}
	})
}

func (s *slow) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = true
}

// let tells of the oldest batch that waits, and says whether there was one.
func (s *slow) let() bool {
	s.mu.Lock()
	if len(s.waiting) == 0 {
		s.mu.Unlock()
		return false
	}
	next := s.waiting[0]
	s.waiting = s.waiting[1:]
	s.mu.Unlock()
	next()
	return true
}

// release ends the waiting.
func (s *slow) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = false
	for _, next := range s.waiting {
		next()
	}
	s.waiting = nil
}

func (s *slow) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiting)
}

// TestSendsDoNotWaitForTheDisk: messages of one sender are all under way before
// the first is durable, dense and in order; their sender is answered when each is
// durable; and who reads what they write waits for them.
func TestSendsDoNotWaitForTheDisk(t *testing.T) {
	disk := &slow{}
	u := newUniverseWith(t, func(t testing.TB, id region.ID) store.Store {
		disk.Store = inPebble(t, id)
		return disk
	}, nil, "sh")
	t.Cleanup(disk.release) // or nothing could be closed
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	u.send(alice, bob.UIN, "first", "remembered from now on")
	before := u.sites["sh"].heard.seen(alice.UIN)
	heard := func(who region.UIN, want uint64) func() error {
		return func() error {
			if got := u.sites["sh"].heard.seen(who); got < want {
				return fmt.Errorf("notices of %d of %d", got, want)
			}
			return nil
		}
	}
	u.eventually("the first arrives", heard(bob.UIN, 1))

	disk.hold()
	const n = 5
	type answer struct {
		resp *v1.SendResponse
		err  error
	}
	answers := make(chan answer, n)
	for i := range n {
		u.core("sh").SendThen(ctx, alice.Caller, textTo(bob.UIN, fmt.Sprint("m", i), "hello"), func(r *v1.SendResponse, err error) { answers <- answer{r, err} })
	}
	// Alice's are durable, and nobody was told; Bob's follow from the journal.
	u.eventually("all are under way", func() error {
		if c := disk.count(); c < n {
			return fmt.Errorf("%d are", c)
		}
		return nil
	})
	if len(answers) != 0 || u.sites["sh"].heard.seen(alice.UIN) != before {
		t.Fatalf("%d answers, notices up to %d, before the disk had anything", len(answers), u.sites["sh"].heard.seen(alice.UIN))
	}

	// A change that reads waits for what is under way.
	recalled := make(chan error, 1)
	go func() {
		_, err := u.core("sh").Recall(ctx, alice.Caller, &v1.RecallRequest{ClientMessageId: "m0", IdempotencyKey: "r"})
		recalled <- err
	}()
	for i := range n {
		select {
		case err := <-recalled:
			t.Fatalf("recalled with %d messages under way: %v", n-i, err)
		default:
		}
		u.eventually("one more answer", func() error {
			if len(answers) <= i && (!disk.let() || len(answers) <= i) { // Bob's batches are among them
				return fmt.Errorf("%d answers", len(answers))
			}
			return nil
		})
	}
	for i := range n {
		a := <-answers
		if a.err != nil || a.resp.Sequence != before+uint64(i)+1 {
			t.Fatalf("message %d: %+v, %v; want sequence %d", i, a.resp, a.err, before+uint64(i)+1)
		}
	}
	stop := make(chan struct{})
	var letting sync.WaitGroup
	letting.Go(func() { // the rest
		for {
			select {
			case <-stop:
				return
			default:
				disk.let()
			}
		}
	})
	if err := <-recalled; err != nil {
		t.Error(err)
	}
	u.eventually("Bob has all", heard(bob.UIN, n+1))
	close(stop)
	letting.Wait()
	disk.release()
	if err := u.sites["sh"].heard.broken; err != nil {
		t.Error(err)
	}
}

// TestFlightsAndChanges has one sender's messages fly while the same owner's
// records are changed in other ways and messages are repeated: the inbox stays
// dense, and a repeat is answered with the first one's sequence.
func TestFlightsAndChanges(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	const n = 120
	var all sync.WaitGroup
	var mu sync.Mutex
	sequences := map[string]uint64{}
	took := func(id string) func(*v1.SendResponse, error) {
		all.Add(1)
		return func(r *v1.SendResponse, err error) {
			defer all.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%s: %v", id, err)
			} else if old, ok := sequences[id]; ok && old != r.Sequence {
				t.Errorf("%s has sequences %d and %d", id, old, r.Sequence)
			} else {
				sequences[id] = r.Sequence
			}
		}
	}
	for worker := range 3 {
		all.Go(func() {
			for i := range n / 3 {
				id := fmt.Sprint(worker, "/", i)
				u.core("sh").SendThen(ctx, alice.Caller, textTo(bob.UIN, id, "hello"), took(id))
				if i%7 == 0 {
					u.core("sh").SendThen(ctx, alice.Caller, textTo(bob.UIN, id, "hello"), took(id))
				}
				if i%5 == worker {
					if _, err := u.core("sh").SetSetting(ctx, alice.Caller, &v1.SetSettingRequest{Setting: &v1.Setting{Name: fmt.Sprint("k", i), Value: "v"}, IdempotencyKey: id}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	seen := map[uint64]bool{}
	for id, s := range sequences {
		if s == 0 || seen[s] {
			t.Errorf("%s has sequence %d, which another has", id, s)
		}
		seen[s] = true
	}
	if len(seen) != n {
		t.Errorf("%d sequences for %d messages", len(seen), n)
	}
	messages, err := u.inbox(alice)
	must(t, err)
	for i, m := range messages {
		if m.Sequence != uint64(i+1) {
			t.Fatalf("place %d of the inbox has sequence %d", i, m.Sequence)
		}
	}
	if len(messages) != n {
		t.Errorf("%d messages in the inbox, want %d", len(messages), n)
	}
	u.eventually("Bob has all", func() error {
		if got := u.sites["sh"].heard.seen(bob.UIN); got != n {
			return fmt.Errorf("notices of %d", got)
		}
		return nil
	})
	if err := u.sites["sh"].heard.broken; err != nil {
		t.Error(err)
	}
}

func TestOwnerLocksFly(t *testing.T) {
	var l ownerLocks
	o, err := l.board(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, ok := l.try(1); ok {
		t.Fatal("a held lock was taken")
	}
	l.fly(o)
	l.leave(1, o)
	if again, flying, ok := l.try(1); !ok || !flying || again != o {
		t.Fatalf("after the departure: lock %p, flying %v, free %v", again, flying, ok)
	}
	l.fly(o)
	l.leave(1, o)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.lock(ended, 1); err == nil {
		t.Fatal("locked with two under way")
	}
	got := make(chan func(), 1)
	go func() {
		unlock, err := l.lock(ctx, 1)
		if err != nil {
			t.Error(err)
		}
		got <- unlock
	}()
	l.land(1, o)
	select {
	case <-got:
		t.Fatal("locked with one under way")
	default:
	}
	l.land(1, o)
	(<-got)()
	if len(l.held) != 0 || len(l.free) != 1 {
		t.Errorf("%d locks held, %d to be used again", len(l.held), len(l.free))
	}
}

// TestSendersWaitForTheDisk: with as many messages under way as may be, one more
// waits for its turn, and is refused for retrying when its time is up.
func TestSendersWaitForTheDisk(t *testing.T) {
	u := newUniverse(t, "sh")
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	c := u.core("sh")
	u.send(alice, bob.UIN, "0", "Bob is remembered")
	for range maxSending {
		c.sending <- struct{}{}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	refused := make(chan error, 1)
	c.SendThen(ended, alice.Caller, textTo(bob.UIN, "1", "hello"), func(_ *v1.SendResponse, err error) { refused <- err })
	wantKind(t, <-refused, region.Unavailable)
	sent := make(chan error, 1)
	go c.SendThen(ctx, alice.Caller, textTo(bob.UIN, "1", "hello"), func(_ *v1.SendResponse, err error) { sent <- err })
	<-c.sending // one is durable
	if err := <-sent; err != nil {
		t.Error(err)
	}
	for range maxSending - 1 {
		<-c.sending
	}
	u.send(alice, bob.UIN, "2", "again") // flies
	u.eventually("every place is given back", func() error {
		if n := len(c.sending); n > 0 {
			return fmt.Errorf("%d are taken", n)
		}
		return nil
	})
}
