package core

import (
	"cmp"
	"context"
	"sort"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// scanRows is how many inbox rows are read at a time.
const scanRows = 200

// Sync returns what changed since a snapshot, in pages, and the next snapshot.
// It writes nothing, and nothing is lost when its answer is: the client asks
// again with the snapshot it has.
//
// A snapshot of an older epoch resumes behind the last message of that epoch
// known here, so a message that a failover brought under a sequence the client
// has seen otherwise used is not missed; account, contacts and read positions come whole. A
// snapshot that is unknown, or of another owner, starts over (full).
//
// A message that is older than the region keeps them is not given: a client
// whose snapshot is behind learns from oldest where what is kept begins, and
// misses nothing from there on.
//
// A page holds at most max_bytes, or MaxPage, of items, and one item at least.
//
// Errors: Unavailable when the snapshot is of a newer epoch than this region's.
func (c *Core) Sync(ctx context.Context, by Caller, r *v1.SyncRequest) (_ *v1.SyncResponse, err error) {
	defer c.m.count("Sync", &err)
	if err := needUser(by); err != nil {
		return nil, err
	}
	p, err := c.acts(by.UIN)
	if err != nil {
		return nil, err
	}
	resp := new(v1.SyncResponse)
	since, ok := decodeSnapshot(r.Snapshot, by.UIN)
	switch {
	case !ok:
		resp.Full = true
	case p.Epoch.Less(since.epoch):
		return nil, region.Errorf(region.Unavailable, "region %s is behind the epoch of the snapshot", c.o.Self).WithHint("retry; it is catching up with the world")
	case since.epoch != p.Epoch:
		since.account, since.contacts, since.reads, since.settings = 0, 0, 0, 0
		if since.messages, err = c.resume(ctx, by.UIN, since); err != nil {
			return nil, err
		}
	}
	since.owner, since.epoch = by.UIN, p.Epoch
	page := page{left: MaxPage}
	if r.MaxBytes > 0 && r.MaxBytes < MaxPage {
		page.left = int(r.MaxBytes)
	}
	if err := c.syncAccount(ctx, p, &since, resp, &page); err != nil {
		return nil, err
	}
	if resp.Contacts, since.contacts, err = contactFeed().since(ctx, c, by.UIN, since.contacts, &page); err != nil {
		return nil, err
	}
	if err := c.syncMessages(ctx, &since, resp, &page); err != nil {
		return nil, err
	}
	if resp.Reads, since.reads, err = readFeed().since(ctx, c, by.UIN, since.reads, &page); err != nil {
		return nil, err
	}
	if resp.Settings, since.settings, err = settingFeed().since(ctx, c, by.UIN, since.settings, &page); err != nil {
		return nil, err
	}
	resp.More = page.full
	if m, ok := c.o.Held(p.Home, region.PartitionOf(by.UIN, c.o.Store.Partitions())); ok {
		resp.Held = &v1.Mark{Incarnation: m.Incarnation, Sequence: m.Seq}
	}
	if resp.Snapshot, err = since.encode(); err != nil {
		return nil, err
	}
	return resp, nil
}

// page is the room left in an answer, in bytes.
type page struct {
	left  int
	items int
	full  bool
}

// take makes room for an item; the first always has some, so that every page
// gets the client on.
func (p *page) take(m proto.Message) bool {
	n := proto.Size(m) + 4 // and its tag and length
	if p.full || p.items > 0 && n > p.left {
		p.full = true
		return false
	}
	p.left -= n
	p.items++
	return true
}

func (c *Core) syncAccount(ctx context.Context, p region.Placement, s *snapshot, resp *v1.SyncResponse, page *page) error {
	a, row, err := c.accountOf(ctx, s.owner)
	if err != nil || a == nil || row.Version == s.account {
		return err
	}
	account := publicAccount(s.owner, p.Home, a)
	if page.take(account) {
		resp.Account, s.account = account, row.Version
	}
	return nil
}

// syncMessages gives messages behind the newest that the client saw. Those that
// the region keeps no more are stepped over, and the answer says from where on
// there are any.
func (c *Core) syncMessages(ctx context.Context, s *snapshot, resp *v1.SyncResponse, page *page) error {
	first, err := c.firstKept(ctx, s.owner)
	if err != nil {
		return err
	}
	if first > 1 {
		resp.Oldest = first
		s.messages = max(s.messages, first-1)
	}
	for !page.full {
		var bad error
		rows := 0
		err := c.o.Store.Scan(ctx, s.owner, tableInbox, store.Range{From: keySequence(s.messages + 1), Limit: scanRows}, func(r *store.Row) bool {
			rows++
			var m *v1.Message
			if m, bad = readMessage(r); bad != nil || !page.take(m) {
				return false
			}
			resp.Messages = append(resp.Messages, m)
			s.messages = m.Sequence
			return true
		})
		if err = cmp.Or(err, bad); err != nil {
			return err
		}
		if rows < scanRows {
			return nil
		}
	}
	return nil
}

// resume finds where a snapshot of an older epoch goes on: at its own sequence,
// or at the last one here of its epoch or an older, whichever is smaller. The
// epochs of an inbox's rows never fall, but for those that were emptied or removed
// since, which are newer; so that one is found by bisection of what is kept, and
// an emptied row can only make it resume earlier.
func (c *Core) resume(ctx context.Context, owner region.UIN, s snapshot) (uint64, error) {
	kept, err := c.firstKept(ctx, owner)
	if err != nil || s.messages < kept {
		return s.messages, err
	}
	var failed error
	newer := func(sequence uint64) bool {
		r, err := c.o.Store.Get(ctx, owner, tableInbox, keySequence(sequence))
		failed = cmp.Or(failed, err)
		return r.Version == 0 || s.epoch.Less(r.Epoch)
	}
	if !newer(s.messages) {
		return s.messages, failed
	}
	// A snapshot may claim any sequence: bisect below the real newest one only.
	limit := s.messages
	err = c.o.Store.Scan(ctx, owner, tableInbox, store.Range{Reverse: true, Limit: 1, Deleted: true}, func(r *store.Row) bool {
		if n, ok := numberOf(r.Row); ok {
			limit = min(limit, n)
		}
		return false
	})
	if err != nil || limit < kept {
		return min(s.messages, kept-1), err
	}
	first := sort.Search(int(limit-kept+1), func(i int) bool { return newer(kept + uint64(i)) })
	return kept - 1 + uint64(first), failed
}
