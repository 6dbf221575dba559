package core

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
)

// hanging is a disk whose syncs of the log do not return while it is held.
type hanging struct {
	mu   sync.Mutex
	held chan struct{} // nil: it works
}

func (h *hanging) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = make(chan struct{})
}

func (h *hanging) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.held != nil {
		close(h.held)
		h.held = nil
	}
}

func (h *hanging) MaybeError(op errorfs.Op) error {
	switch op.Kind {
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
	default:
		return nil
	}
	h.mu.Lock()
	held := h.held
	h.mu.Unlock()
	if held != nil && strings.HasSuffix(op.Path, ".log") {
		<-held
	}
	return nil
}

func (h *hanging) String() string { return "a disk that hangs" }

// TestDiskHangs: while the disk does not answer, whoever waits for it is told to
// try again when its time is up, whether its message was submitted, waits behind
// others of the same sender, or is another kind of change. Once the disk answers,
// a repeat under the same ID finds what was stored, once, and nothing is left taken.
func TestDiskHangs(t *testing.T) {
	disk := &hanging{}
	u := newUniverseWith(t, func(t testing.TB, id region.ID) store.Store {
		s, err := pebble.Open(pebble.Options{Dir: "store", FS: errorfs.Wrap(vfs.NewMem(), disk), MinFree: -1, Memory: 1 << 20, Region: id, Partitions: partitions})
		must(t, err)
		return s
	}, nil, "sh")
	t.Cleanup(disk.release) // or nothing could be closed
	alice, bob := u.register("sh", "Alice"), u.register("sh", "Bob")
	c := u.core("sh")
	u.send(alice, bob.UIN, "first", "remembered from now on")
	u.eventually("delivery", func() error { return u.has(bob, "remembered from now on") })

	disk.hold()
	const n = 5
	soon, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	answers := make(chan error, n)
	for i := range n {
		c.SendThen(soon, alice.Caller, textTo(bob.UIN, fmt.Sprint("m", i), fmt.Sprint("text ", i)), func(_ *v1.SendResponse, err error) { answers <- err })
	}
	if len(c.sending) != n {
		t.Errorf("%d messages are under way, want %d", len(c.sending), n)
	}
	setting := &v1.SetSettingRequest{Setting: &v1.Setting{Name: "k", Value: "v"}, IdempotencyKey: "s"}
	changes := make(chan error, 3)
	go func() { // waits behind the messages
		_, err := c.SetSetting(soon, alice.Caller, setting)
		changes <- err
	}()
	go func() { // waits for the disk
		_, err := c.SetSetting(soon, bob.Caller, setting)
		changes <- err
	}()
	go func() {
		_, err := c.Send(soon, alice.Caller, textTo(bob.UIN, "m5", "text 5"))
		changes <- err
	}()
	for range n + cap(changes) {
		var err error
		select {
		case err = <-answers:
		case err = <-changes:
		}
		wantKind(t, err, region.Unavailable)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the cause is not the time: %v", err)
		}
	}
	if len(c.sending) == 0 {
		t.Error("no message is under way, though none is durable")
	}

	disk.release()
	for i := range n + 1 {
		u.send(alice, bob.UIN, fmt.Sprint("m", i), fmt.Sprint("text ", i))
	}
	for _, who := range []*user{alice, bob} {
		u.retry(func() error {
			_, err := c.SetSetting(ctx, who.Caller, setting)
			return err
		})
	}
	texts := []string{"remembered from now on", "text 0", "text 1", "text 2", "text 3", "text 4", "text 5"}
	must(t, u.has(alice, texts...))
	u.eventually("delivery", func() error { return u.has(bob, texts...) })
	u.eventually("every place and lock is given back", func() error {
		c.locks.mu.Lock()
		defer c.locks.mu.Unlock()
		if n, held := len(c.sending), len(c.locks.held); n+held > 0 {
			return fmt.Errorf("%d places, %d locks", n, held)
		}
		return nil
	})
	if err := u.sites["sh"].heard.broken; err != nil {
		t.Error(err)
	}
}
