package core

import (
	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/store"
)

// head is what this process remembers of an owner, so that a message costs no
// reads. It is derived from the rows, and read and changed under the owner's
// lock: a remembered one is good only at the epoch at which this process wrote
// it, since another region may have written in between. Whoever writes accounts
// or contacts not by a txn has to forget the owner. A wrong newest cannot do
// harm, since an inbox row is written only where there is none.
type head struct {
	epoch  region.Epoch
	newest uint64
	user   bool                // the owner has an account that is not erased, and is no group
	clean  map[region.UIN]bool // senders whom the owner does not block; some of them
}

// maxClean bounds head.clean; beyond it one begins anew.
const maxClean = 64

// newest returns the newest sequence of the owner's inbox, 0 when it is empty.
func (t *txn) newest() (uint64, error) {
	if h, ok := t.remembered(); ok {
		return h.newest, nil
	}
	h := head{epoch: t.place.Epoch, user: aUser(t.account.row)}
	var bad bool
	err := t.c.o.Store.Scan(t.ctx, t.owner, tableInbox, store.Range{Reverse: true, Limit: 1, Deleted: true}, func(r *store.Row) bool {
		var ok bool
		h.newest, ok = numberOf(r.Row)
		bad = !ok
		return false
	})
	if err != nil {
		return 0, err
	}
	if bad {
		return 0, region.Errorf(region.Internal, "an inbox row has a damaged key").WithHint("repair the partition")
	}
	t.head, t.hasHead = h, true
	return h.newest, nil
}

// known says whether the owner took a message of that ID already, and where.
func (t *txn) known(id [16]byte) (sequence uint64, ok bool, err error) {
	r, err := t.get(tableMessage, id[:])
	if err != nil || !r.Exists() {
		return 0, false, err
	}
	n, valid := numberOf(r.Value)
	if !valid {
		return 0, false, region.Errorf(region.Internal, "a message index row is damaged").WithHint("repair the partition")
	}
	return n, true, nil
}

// repeats says whether the owner took a message of that ID already. The first
// try looks at this transaction only: that the index row is absent is a
// condition of the commit, which finds out for less than a read, and nearly all
// messages are new.
func (t *txn) repeats(id [16]byte) (bool, error) {
	if t.first {
		return t.wrote(tableMessage, id[:]) >= 0, nil
	}
	_, found, err := t.known(id)
	return found, err
}

func aUser(a *v1.AccountRow) bool { return a != nil && !a.Group && a.ErasedUnixMilli == 0 }

// isUser says whether the owner is remembered as a user.
func (t *txn) isUser() bool {
	h, ok := t.remembered()
	return ok && h.user
}

// remembered returns what is known of the owner from before.
func (t *txn) remembered() (*head, bool) {
	if !t.hasHead {
		h, ok := t.c.heads.Get(t.owner)
		if !ok || h.epoch != t.place.Epoch {
			return nil, false
		}
		t.head, t.hasHead = h, true
	}
	return &t.head, true
}

// blocks says whether the owner blocks another user.
func (t *txn) blocks(u region.UIN) (bool, error) {
	if h, ok := t.remembered(); ok && h.clean[u] {
		return false, nil
	}
	k, err := t.contact(u)
	if err == nil && !k.Blocked {
		t.clean = append(t.clean, u)
	}
	return k.Blocked, err
}

// keepHead remembers what the committed transaction knows.
func (t *txn) keepHead() {
	if t.forgets {
		t.c.heads.Remove(t.owner)
		return
	}
	if !t.hasHead {
		return
	}
	h := t.head
	h.user = h.user || aUser(t.account.row)
	for _, u := range t.clean {
		if h.clean == nil || len(h.clean) >= maxClean {
			h.clean = make(map[region.UIN]bool)
		}
		h.clean[u] = true
	}
	t.c.heads.Add(t.owner, h)
}

// append puts a message that is not known into the owner's inbox. The stored
// bytes are those that travelled: without a sequence, which is the row's key.
func (t *txn) append(id [16]byte, m *v1.Message, stored []byte) (sequence uint64, err error) {
	newest, err := t.newest()
	if err != nil {
		return 0, err
	}
	sequence = newest + 1
	t.put(tableInbox, keySequence(sequence), stored)
	t.put(tableMessage, id[:], keySequence(sequence))
	t.head.newest = sequence
	t.notices = append(t.notices, &v1.Message{Id: m.Id, Sequence: sequence, Sender: m.Sender, To: m.To,
		ClientMessageId: m.ClientMessageId, SentUnixMilli: m.SentUnixMilli, Body: m.Body})
	return sequence, nil
}

// message reads the inbox entry of a sequence; nil when it was removed since,
// because it was old.
func (t *txn) message(sequence uint64) (*v1.Message, error) {
	r, err := t.get(tableInbox, keySequence(sequence))
	if err != nil || r.Deleted {
		return nil, err
	}
	if !r.Exists() {
		return nil, region.Errorf(region.Internal, "an inbox lacks an entry its index has").WithHint("repair the partition")
	}
	return readMessage(&r)
}

func readMessage(r *store.Row) (*v1.Message, error) {
	m := new(v1.Message)
	if err := unmarshalRow(r, m); err != nil {
		return nil, err
	}
	n, ok := numberOf(r.Row)
	if !ok {
		return nil, region.Errorf(region.Internal, "an inbox row has a damaged key").WithHint("repair the partition")
	}
	m.Sequence = n
	return m, nil
}
