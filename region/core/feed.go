package core

import (
	"cmp"
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/homing-im/homing/region"
	v1 "github.com/homing-im/homing/region/homingv1"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// feed is a table of an owner's whose rows are synced: contacts, read positions,
// settings. Every row carries the number of its last change, which no other row
// of the owner's table has, and a head row the newest one. Pages are in the order
// of changes, so one may end anywhere and the next goes on behind the last change
// that the client saw. A row that changes meanwhile comes again, later.
type feed[T proto.Message] struct {
	rows, head journal.Table
	limit      int // rows of an owner

	newest func(head *store.Row) (change uint64, err error)
	read   func(row *store.Row) (item T, change uint64, err error)
}

// since returns the items that changed after a change, as far as the page has
// room, and the change of the last one.
func (f *feed[T]) since(ctx context.Context, c *Core, owner region.UIN, seen uint64, page *page) ([]T, uint64, error) {
	if page.full {
		return nil, seen, nil
	}
	head, err := c.o.Store.Get(ctx, owner, f.head, keySingle)
	if err != nil || !head.Exists() {
		return nil, seen, err
	}
	if newest, err := f.newest(&head); err != nil || newest <= seen {
		return nil, seen, err
	}
	type changed struct {
		item T
		at   uint64
	}
	var list []changed
	var bad error
	err = c.o.Store.Scan(ctx, owner, f.rows, store.Range{Limit: f.limit}, func(r *store.Row) bool {
		var k changed
		if k.item, k.at, bad = f.read(r); bad == nil && k.at > seen {
			list = append(list, k)
		}
		return bad == nil
	})
	if err = cmp.Or(err, bad); err != nil {
		return nil, seen, err
	}
	slices.SortFunc(list, func(a, b changed) int { return cmp.Compare(a.at, b.at) })
	var items []T
	for _, k := range list {
		if !page.take(k.item) {
			break
		}
		items, seen = append(items, k.item), k.at
	}
	return items, seen, nil
}

func contactFeed() *feed[*v1.Contact] {
	return &feed[*v1.Contact]{rows: tableContact, head: tableContactHead, limit: MaxContacts,
		newest: func(head *store.Row) (uint64, error) {
			var h v1.ContactHeadRow
			err := unmarshalRow(head, &h)
			return max(h.Change, head.Version), err
		},
		read: func(r *store.Row) (*v1.Contact, uint64, error) {
			var row v1.ContactRow
			u, err := keyedBy(r, &row)
			return &v1.Contact{Uin: u, Remark: row.Remark, Removed: row.Removed, Blocked: row.Blocked, State: row.State}, row.Change, err
		}}
}

func readFeed() *feed[*v1.ReadPosition] {
	return &feed[*v1.ReadPosition]{rows: tableRead, head: tableReadHead, limit: MaxReads,
		newest: func(head *store.Row) (uint64, error) {
			var h v1.ReadHeadRow
			err := unmarshalRow(head, &h)
			return h.Change, err
		},
		read: func(r *store.Row) (*v1.ReadPosition, uint64, error) {
			var row v1.ReadRow
			peer, err := keyedBy(r, &row)
			return &v1.ReadPosition{Peer: peer, Sequence: row.Sequence}, row.Change, err
		}}
}

func settingFeed() *feed[*v1.Setting] {
	return &feed[*v1.Setting]{rows: tableSetting, head: tableSettingHead, limit: MaxSettings,
		newest: func(head *store.Row) (uint64, error) {
			var h v1.SettingHeadRow
			err := unmarshalRow(head, &h)
			return h.Change, err
		},
		read: func(r *store.Row) (*v1.Setting, uint64, error) {
			var row v1.SettingRow
			err := unmarshalRow(r, &row)
			return &v1.Setting{Name: row.Name, Value: row.Value, Removed: row.Removed}, row.Change, err
		}}
}

// keyedBy reads a row whose key is a number.
func keyedBy(r *store.Row, m proto.Message) (uint64, error) {
	n, ok := numberOf(r.Row)
	if !ok {
		return 0, region.Errorf(region.Internal, "a row of table %d has a damaged key", r.Table).WithHint("repair the partition")
	}
	return n, unmarshalRow(r, m)
}
