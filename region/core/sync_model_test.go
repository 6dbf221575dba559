package core

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
)

// replica is what a device has of its user's records, put together from pages.
type replica struct {
	snapshot []byte
	newest   uint64            // sequence, since the last change of epoch
	messages map[string]uint64 // texts, and the sequence they were last seen at
	state    map[string]int    // contacts, read positions, settings, account: the number of the write last seen
	oldest   uint64
}

func newReplica() *replica {
	return &replica{messages: map[string]uint64{}, state: map[string]int{}}
}

// apply takes a page, and holds that it brings the replica on: no sequence comes
// twice or out of order within an epoch, and nothing becomes older than it was.
func (d *replica) apply(r *v1.SyncResponse) error {
	for _, m := range r.Messages {
		if m.Sequence <= d.newest {
			return fmt.Errorf("sequence %d after %d", m.Sequence, d.newest)
		}
		d.newest = m.Sequence
		d.messages[m.Body.GetText()] = m.Sequence
	}
	see := func(name string, n int) error {
		if n < d.state[name] {
			return fmt.Errorf("%s is %d after %d", name, n, d.state[name])
		}
		d.state[name] = n
		return nil
	}
	for _, k := range r.Contacts {
		var n int
		if _, err := fmt.Sscan(k.Remark, &n); err != nil {
			return err
		}
		if err := see(fmt.Sprint("contact ", k.Uin), n); err != nil {
			return err
		}
	}
	for _, p := range r.Reads {
		if err := see(fmt.Sprint("read ", p.Peer), int(p.Sequence)); err != nil {
			return err
		}
	}
	for _, s := range r.Settings {
		var n int
		if _, err := fmt.Sscan(s.Value, &n); err != nil {
			return err
		}
		if err := see("setting "+s.Name, n); err != nil {
			return err
		}
	}
	if r.Account != nil {
		var n int
		if _, err := fmt.Sscanf(r.Account.Nickname, "name %d", &n); err != nil {
			return err
		}
		if err := see("account", n); err != nil {
			return err
		}
	}
	if r.Oldest < d.oldest {
		return fmt.Errorf("the oldest is %d after %d", r.Oldest, d.oldest)
	}
	d.snapshot, d.oldest = r.Snapshot, r.Oldest
	return nil
}

// TestSyncMissesNothing lets some devices of a user sync in pages of random size,
// stop in the middle and go on later, while the user's records are written,
// removed when old, and served by one region after the other, the last change
// being a failover that loses what was not copied. A device that has synced to
// the end has exactly what the region has.
func TestSyncMissesNothing(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) { syncModel(t, r) })
}

func syncModel(t *testing.T, r *rapid.T) {
	u := newUniverseWith(t, inMemory, map[region.ID]region.ID{"sh": "hk", "hk": "sh"}, "sh", "hk")
	defer u.quit()
	alice := u.register("sh", "name 0")
	devices := []*replica{newReplica(), newReplica(), newReplica()}
	version, writes := uint64(1), 0
	texts := map[string]uint64{} // of messages that are kept
	var sequence uint64
	write := func(r *rapid.T) {
		writes++
		c, key := u.core(alice.region), fmt.Sprint(writes)
		peer := uint64(1_000_500 + rapid.IntRange(0, 3).Draw(r, "which"))
		var err error
		switch kind := rapid.IntRange(0, 7).Draw(r, "kind"); {
		case kind < 4:
			sequence = u.send(alice, alice.UIN, key, key).Sequence
			texts[key] = sequence
		case kind == 4:
			err = c.mutate(ctx, alice.UIN, func(t *txn) error { // a contact need not exist for this
				row, err := t.contact(region.UIN(peer))
				if err != nil {
					return err
				}
				row.Remark, row.Removed = key, false
				return t.saveContact(region.UIN(peer), row, MaxContacts)
			})
		case kind == 5 && sequence > 0:
			_, err = c.SetRead(ctx, alice.Caller, &v1.SetReadRequest{Peer: uint64(alice.UIN), Sequence: sequence, IdempotencyKey: key})
		case kind == 6:
			_, err = c.SetSetting(ctx, alice.Caller, &v1.SetSettingRequest{Setting: &v1.Setting{Name: fmt.Sprint(peer), Value: key}, IdempotencyKey: key})
		default:
			_, err = c.UpdateProfile(ctx, alice.Caller, &v1.UpdateProfileRequest{Nickname: "name " + key, IdempotencyKey: key})
		}
		must(t, err)
	}
	page := func(d *replica, budget uint32) bool {
		a, err := u.core(alice.region).Sync(ctx, alice.Caller, &v1.SyncRequest{Snapshot: d.snapshot, MaxBytes: budget})
		must(t, err)
		if err := d.apply(a); err != nil {
			r.Fatal(err)
		}
		return a.More
	}
	serveBy := func(id region.ID) {
		version++
		u.setWorld(testWorld(version, map[region.ID]region.ID{"sh": id}, "sh", "hk"))
		alice.region = id
		for _, d := range devices {
			d.newest = 0 // an older epoch may resume earlier
		}
	}
	r.Repeat(map[string]func(*rapid.T){
		"write": write,
		"sync": func(r *rapid.T) {
			d := rapid.SampledFrom(devices).Draw(r, "device")
			for range rapid.IntRange(1, 5).Draw(r, "pages") {
				if !page(d, rapid.Uint32Range(1, 400).Draw(r, "budget")) {
					break
				}
			}
		},
		"forget the old": func(r *rapid.T) {
			u.ahead.Add(int64(time.Hour))
			write(r)
			c := u.core(alice.region)
			c.o.Retention = time.Duration(rapid.IntRange(1, 5).Draw(r, "hours")) * time.Hour
			must(t, c.expireAll(ctx, u.sites[alice.region].store))
			first, err := c.firstKept(ctx, alice.UIN)
			must(t, err)
			maps.DeleteFunc(texts, func(_ string, at uint64) bool { return at < first })
		},
		"switch over": func(r *rapid.T) {
			u.eventually("all is quiet", func() error { return u.caughtUp() })
			serveBy(map[region.ID]region.ID{"sh": "hk", "hk": "sh"}[alice.region])
		},
	})
	if rapid.Bool().Draw(r, "a disaster") {
		u.eventually("all is quiet", func() error { return u.caughtUp() })
		old := alice.region
		u.stop() // nothing leaves any region from here on
		u.relay.Wait()
		kept := maps.Clone(texts)
		for range rapid.IntRange(0, 5).Draw(r, "writes that are lost") {
			write(r)
			page(devices[0], 0)
		}
		texts = kept
		serveBy(map[region.ID]region.ID{"sh": "hk", "hk": "sh"}[old])
		devices[0].state = map[string]int{} // what was lost becomes older again
		for range rapid.IntRange(0, 5).Draw(r, "writes under the same numbers") {
			writes++
			key := fmt.Sprint("after ", writes)
			texts[key] = u.send(alice, alice.UIN, key, key).Sequence
		}
	}
	truth := newReplica()
	for page(truth, 0) {
	}
	if !maps.Equal(truth.messages, texts) {
		r.Fatalf("the region has %v, want %v", truth.messages, texts)
	}
	for i, d := range devices {
		for page(d, rapid.Uint32Range(1, 400).Draw(r, "budget")) {
		}
		for s, at := range texts {
			if d.messages[s] != at {
				r.Fatalf("device %d has message %q at %d, the region at %d", i, s, d.messages[s], at)
			}
		}
		if !maps.Equal(d.state, truth.state) {
			r.Fatalf("device %d has %v, the region %v", i, d.state, truth.state)
		}
	}
}

// A send that is retried is stored once: by the same device, by another one that
// has the user's outbox, after restarts of the client and of the region, and
// after the region was replaced.
func TestRetriedSendIsStoredOnce(t *testing.T) {
	u := newUniverseWith(t, inPebble, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk")
	alice, bob := u.register("sh", "Alice"), u.register("hk", "Bob")
	first := u.send(alice, bob.UIN, "m", "once")
	laptop := *alice
	laptop.DeviceKeyID = [8]byte{1, 2, 3}
	u.restart("sh")
	for _, who := range []*user{alice, &laptop} {
		if again := u.send(who, bob.UIN, "m", "once"); !again.Repeated || again.Sequence != first.Sequence {
			t.Errorf("%v after %v", again, first)
		}
	}
	u.eventually("all is quiet", func() error { return u.caughtUp() })
	u.setWorld(testWorld(2, map[region.ID]region.ID{"sh": "hk"}, "sh", "hk"))
	alice.region = "hk"
	if again := u.send(alice, bob.UIN, "m", "once"); !again.Repeated || again.Sequence != first.Sequence {
		t.Errorf("%v after %v", again, first)
	}
	u.send(alice, bob.UIN, "n", "next")
	for _, who := range []*user{alice, bob} {
		u.eventually("delivery", func() error { return u.has(who, "once", "next") })
		if all, _ := u.inbox(who); len(all) != 2 {
			t.Errorf("user %d has %d messages", who.UIN, len(all))
		}
	}
}
