package pebble

import (
	"context"
	"errors"
	"testing"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// A store that settled has everything in tables, and nothing is at work.
func TestSettle(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir(), Region: "sh", Partitions: 4, MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	for owner := range region.UIN(100) {
		b := &store.Batch{Owner: owner + 1, Home: "sh", Writes: []store.Write{{Table: 101, Row: []byte("row"), Value: []byte("value")}}}
		if _, err := s.Commit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	flushes := s.db.Metrics().Flush.Count
	if err := s.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if m := s.db.Metrics(); m.Flush.Count == flushes || m.Flush.NumInProgress != 0 || m.Compact.NumInProgress != 0 {
		t.Errorf("%d flushes, %d before; %d flushes and %d compactions are under way", m.Flush.Count, flushes, m.Flush.NumInProgress, m.Compact.NumInProgress)
	}
	if row, err := s.Get(t.Context(), 7, 101, []byte("row")); err != nil || string(row.Value) != "value" {
		t.Errorf("a row is %+v, %v", row, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Settle(ended); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("settled with an ended context: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(t.Context()); region.KindOf(err) != region.Unavailable {
		t.Errorf("a closed store settled: %v", err)
	}
}
