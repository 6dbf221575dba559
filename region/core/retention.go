package core

import (
	"context"
	"time"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

const (
	// expireRows is how many messages of an inbox go with one commit.
	expireRows = 200
	// expireOwners is how many owners are looked at between two pauses.
	expireOwners = 64
	// expireShare is the part of the time that removing may take: after a piece of
	// work it rests this many times as long. Messages that are a little too old
	// harm nobody, and a disk busy with deleting does.
	expireShare = 9
	// The pause between two walks over all inboxes is a hundredth of the retention,
	// within these.
	expirePauseLeast = 100 * time.Millisecond
	expirePauseMost  = time.Hour
)

// retention removes messages that are older than this region keeps them. It is
// one goroutine, in the process that has the store, which walks over the inboxes
// of the owners that this region acts for, again and again.
func (c *Core) retention(ctx context.Context, s store.Store) {
	pause := min(max(c.o.Retention/100, expirePauseLeast), expirePauseMost)
	for {
		if err := c.expireAll(ctx, s); err != nil && ctx.Err() == nil {
			c.log.Warn("removing old messages is held up", "error", err)
		}
		if !rest(ctx, pause) {
			return
		}
	}
}

// rest waits, and is false when ctx ended meanwhile.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// expireAll walks over all inboxes once.
func (c *Core) expireAll(ctx context.Context, s store.Store) error {
	for p := range s.Partitions() {
		for after, more := region.UIN(0), true; more; {
			began := time.Now()
			owners, err := s.Owners(ctx, region.Partition(p), tableInbox, after, expireOwners)
			if err != nil {
				return err
			}
			more = len(owners) == expireOwners
			for _, u := range owners {
				after = u
				if _, err := c.acts(u); err != nil {
					continue // another region's to decide
				}
				if err := c.expire(ctx, u); err != nil {
					return err
				}
			}
			if !rest(ctx, expireShare*time.Since(began)) {
				return ctx.Err()
			}
		}
	}
	return nil
}

// expire removes what is too old of one inbox, in as many commits as that takes.
func (c *Core) expire(ctx context.Context, owner region.UIN) error {
	before := c.o.Clock().Add(-c.o.Retention).UnixMilli()
	if first, err := c.firstKept(ctx, owner); err != nil {
		return err
	} else if old, err := c.olderThan(ctx, owner, first, before, 1); err != nil || len(old) == 0 {
		return err // nearly always: without taking the owner's turn
	}
	for {
		removed := 0
		err := c.mutate(ctx, owner, func(t *txn) (err error) {
			removed, err = t.expire(before)
			return err
		})
		c.m.removed.Add(float64(removed))
		if err != nil || removed < expireRows {
			return err
		}
	}
}

// expire removes up to expireRows of the oldest messages: those that were sent
// before a time, up to the first one that was not, so that what is kept has no
// holes. The rows of the index stay: they tell a retried send, which can come at
// any time, from a new one.
func (t *txn) expire(before int64) (int, error) {
	var head v1.InboxRow
	if _, err := t.load(tableInboxHead, keySingle, &head); err != nil {
		return 0, err
	}
	old, err := t.c.olderThan(t.ctx, t.owner, max(head.First, 1), before, expireRows)
	if err != nil || len(old) == 0 {
		return 0, err
	}
	for _, r := range old {
		t.read = append(t.read, rowVersion{tableInbox, r.row, r.version})
		t.delete(tableInbox, r.row)
		if n, ok := numberOf(r.row); ok {
			head.First = n + 1
		}
	}
	return len(old), t.save(tableInboxHead, keySingle, &head)
}

// olderThan returns the messages from a sequence on up to the first one that is
// not older.
func (c *Core) olderThan(ctx context.Context, owner region.UIN, from uint64, before int64, limit int) ([]rowVersion, error) {
	var old []rowVersion
	var bad error
	err := c.o.Store.Scan(ctx, owner, tableInbox, store.Range{From: keySequence(from), Limit: limit}, func(r *store.Row) bool {
		var m *v1.Message
		if m, bad = readMessage(r); bad != nil || m.SentUnixMilli >= before {
			return false
		}
		old = append(old, rowVersion{tableInbox, keySequence(m.Sequence), r.Version})
		return true
	})
	if err == nil {
		err = bad
	}
	return old, err
}

// firstKept returns the sequence from which on an inbox is kept; 1 while it is
// whole.
func (c *Core) firstKept(ctx context.Context, owner region.UIN) (uint64, error) {
	r, err := c.o.Store.Get(ctx, owner, tableInboxHead, keySingle)
	if err != nil || !r.Exists() {
		return 1, err
	}
	var head v1.InboxRow
	err = unmarshalRow(&r, &head)
	return max(head.First, 1), err
}
