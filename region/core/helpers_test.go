package core

import (
	"fmt"

	"github.com/homing-im/homing/region/journal"
	"github.com/homing-im/homing/region/store"
)

var streamTo = journal.StreamTo

var scanAll = store.Range{Limit: 10_000}

func countRows(n *int) func(*store.Row) bool {
	return func(*store.Row) bool { *n++; return true }
}

// hasSpare waits for the quiet after a start.
func (u *universe) hasSpare() error {
	r, _, err := u.core("sh").numbers.load(ctx)
	if err == nil && r.SpareFirst == 0 {
		err = fmt.Errorf("no spare range yet")
	}
	return err
}
