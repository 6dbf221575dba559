package core

import (
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

// TestDecideRow tells what becomes of a row of a tail, by what is there.
func TestDecideRow(t *testing.T) {
	old := region.Epoch{Term: region.Term{Counter: 1}}
	now := region.Epoch{Term: region.Term{Counter: 2}}
	value, other := []byte("tail"), []byte("here")
	for _, c := range []struct {
		what string
		w    journal.RowRecord
		have store.Row
		want fate
	}{
		{"a message", journal.RowRecord{Table: tableInbox, Value: value}, store.Row{Version: 1, Epoch: now}, joins},
		{"a message that was too old", journal.RowRecord{Table: tableInbox, Deleted: true}, store.Row{}, stays},
		{"a message's index", journal.RowRecord{Table: tableMessage, Value: keySequence(5)}, store.Row{}, stays},
		{"that of a group", journal.RowRecord{Table: tableMessage, Value: keySequence(0)}, store.Row{}, takes},
		{"a number of other rows", journal.RowRecord{Table: tableContactHead, Value: value}, store.Row{}, stays},
		{"an ID that is remembered", journal.RowRecord{Table: tableOnce, Value: value}, store.Row{Version: 1, Epoch: now, Value: other}, stays},
		{"an ID that is not", journal.RowRecord{Table: tableOnce, Value: value}, store.Row{}, takes},
		{"a new row", journal.RowRecord{Table: tableAccount, Value: value}, store.Row{}, takes},
		{"a row nobody touched since", journal.RowRecord{Table: tableAccount, Value: value}, store.Row{Version: 3, Epoch: old, Value: other}, takes},
		{"one that was changed here", journal.RowRecord{Table: tableAccount, Value: value}, store.Row{Version: 3, Epoch: now, Value: other}, clash},
		{"to the same", journal.RowRecord{Table: tableAccount, Value: value}, store.Row{Version: 3, Epoch: now, Value: value}, stays},
		{"one that was deleted here", journal.RowRecord{Table: tableAccount, Value: value}, store.Row{Version: 3, Epoch: now, Deleted: true}, clash},
		{"a delete of one that was changed here", journal.RowRecord{Table: tableMember, Deleted: true}, store.Row{Version: 3, Epoch: now, Value: other}, clash},
	} {
		if got := decideRow(old, &c.w, &c.have); got != c.want {
			t.Errorf("%s: %d, want %d", c.what, got, c.want)
		}
	}
}
