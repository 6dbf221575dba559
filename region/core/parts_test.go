package core

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

func TestOwnerLocks(t *testing.T) {
	var l ownerLocks
	unlock, err := l.lock(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.lock(ctx, 2) // nobody waits for another owner
	if err != nil {
		t.Fatal(err)
	}
	other()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.lock(ended, 1); err == nil {
		t.Error("a held lock was taken")
	}
	unlock()
	n := 0 // the race detector watches
	var all sync.WaitGroup
	for range 50 {
		all.Add(1)
		go func() {
			defer all.Done()
			unlock, err := l.lock(ctx, 1)
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			n++
		}()
	}
	all.Wait()
	if n != 50 || len(l.held) != 0 {
		t.Errorf("%d turns, %d locks left", n, len(l.held))
	}
}

func TestNoncesAreForgottenWhenOld(t *testing.T) {
	n, err := newNonces(seededKey("sh"))
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i := range 1000 {
		at := now.Add(time.Duration(i) * time.Second)
		b, err := n.issue(1, [8]byte{}, at)
		if err != nil || !n.valid(1, [8]byte{}, b, at) || n.valid(2, [8]byte{}, b, at) || n.valid(1, [8]byte{1}, b, at) {
			t.Fatal("a nonce is good for its device only", err)
		}
		if err := n.use(b, at); err != nil || n.valid(1, [8]byte{}, b, at) || n.use(b, at) == nil {
			t.Fatal("a nonce is used once", err)
		}
	}
	if len(n.used) != 60 || len(n.order) != 60 {
		t.Errorf("%d and %d kept after one login a second", len(n.used), len(n.order))
	}
}

// The same registration, many times at once, is one user; different ones are
// different users.
func TestRegisterAtOnce(t *testing.T) {
	u := newUniverse(t, "sh")
	key := seededKey("phone").Public().(ed25519.PublicKey)
	var mu sync.Mutex
	users := map[string]map[uint64]bool{}
	var all sync.WaitGroup
	for i := range 40 {
		all.Add(1)
		go func() {
			defer all.Done()
			name := fmt.Sprint("key ", i%4)
			r, err := u.core("sh").Register(ctx, Caller{}, &v1.RegisterRequest{Nickname: "x", DeviceKey: key, IdempotencyKey: name})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if users[name] == nil {
				users[name] = map[uint64]bool{}
			}
			users[name][r.Uin] = true
		}()
	}
	all.Wait()
	seen := map[uint64]bool{}
	for name, list := range users {
		if len(list) != 1 {
			t.Errorf("%s became %v", name, list)
		}
		for uin := range list {
			seen[uin] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("%d users of 4 registrations", len(seen))
	}
}

// A range outside the region's segments would make users of somebody else.
func TestForeignRangeIsRefused(t *testing.T) {
	u := newUniverse(t, "sh", "hk")
	c := u.core("sh")
	for _, r := range [][2]region.UIN{{0, 10}, {2_000_001, 2_000_100}, {1_999_990, 2_000_010}, {1_000_010, 1_000_001}, {5, 6}} {
		if err := c.ours(r[0], r[1]); region.KindOf(err) != region.Internal {
			t.Errorf("%v: %v", r, err)
		}
	}
	if err := c.ours(1_000_001, 1_000_100); err != nil {
		t.Error(err)
	}
}

func TestOptions(t *testing.T) {
	s := inMemory(t, "sh")
	defer s.Close()
	good := Options{Store: s, Self: "sh", Key: seededKey("sh"), View: func() *region.View { return nil }}
	for name, edit := range map[string]func(*Options){
		"no store":     func(o *Options) { o.Store = nil },
		"no view":      func(o *Options) { o.View = nil },
		"no region":    func(o *Options) { o.Self = "" },
		"another's":    func(o *Options) { o.Self = "hk" },
		"no key":       func(o *Options) { o.Key = nil },
		"negative age": func(o *Options) { o.TicketLife = -1 },
	} {
		o := good
		edit(&o)
		if c, err := New(o); region.KindOf(err) != region.BadInput {
			t.Errorf("%s: %v", name, err)
			if c != nil {
				c.Close()
			}
		}
	}
	c, err := New(good) // without a world and without ids it starts, and says what it lacks
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Register(ctx, Caller{}, &v1.RegisterRequest{Nickname: "x", DeviceKey: make([]byte, 32), IdempotencyKey: "x"})
	wantKind(t, err, region.Unavailable)
	_, err = c.Sync(ctx, Caller{UIN: 1_000_001}, &v1.SyncRequest{})
	wantKind(t, err, region.Unavailable)
	_, err = c.Resolve(ctx, Caller{UIN: 1_000_001}, &v1.ResolveRequest{Handle: "alice"})
	wantKind(t, err, region.Unavailable)
}
