package storetest

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// Config is what an engine needs to open a store.
type Config struct {
	Region     region.ID
	Partitions int
	Now        func() time.Time // safe for concurrent use
}

// Factory opens the store of one place. Called again after Close, with the same
// region and partitions, it opens the same data.
type Factory func(t testing.TB, c Config) store.Store

// Run holds an engine to the contract. place returns the factory of a new,
// empty place each time.
func Run(t *testing.T, place func(t testing.TB) Factory) {
	for _, c := range []struct {
		name string
		test func(*testing.T, Factory)
	}{
		{"Rows", testRows},
		{"Preconditions", testPreconditions},
		{"Tombstones", testTombstones},
		{"Classes", testClasses},
		{"CallersMemory", testCallersMemory},
		{"Scan", testScan},
		{"Owners", testOwners},
		{"ScanIsOneMoment", testScanIsOneMoment},
		{"BadInput", testBadInput},
		{"Limits", testLimits},
		{"Concurrency", testConcurrency},
		{"Counter", testCounter},
		{"Conflicts", testConflicts},
		{"Submits", testSubmits},
		{"Streams", testStreams},
		{"JournalPieces", testJournalPieces},
		{"Trim", testTrim},
		{"Changed", testChanged},
		{"Watermarks", testWatermarks},
		{"OwnerMovesHome", testOwnerMovesHome},
		{"Departed", testDeparted},
		{"ReplayOnce", testReplayOnce},
		{"ReplayGaps", testReplayGaps},
		{"ReplayAnotherHistory", testReplayAnotherHistory},
		{"ReplaySkipsOldRows", testReplaySkipsOldRows},
		{"ReplayMismatches", testReplayMismatches},
		{"ReplayPositionsDoNotEcho", testReplayPositionsDoNotEcho},
		{"ReplayShared", testReplayShared},
		{"ReplayNewerKinds", testReplayNewerKinds},
		{"ReplayBadInput", testReplayBadInput},
		{"Positions", testPositions},
		{"Handover", testHandover},
		{"Tail", testTail},
		{"Copy", testCopy},
		{"Fence", testFence},
		{"FenceUnderFire", testFenceUnderFire},
		{"Reopen", testReopen},
		{"SettlesAcrossRestart", testSettlesAcrossRestart},
		{"Contexts", testContexts},
		{"Closed", testClosed},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, place(t)) })
	}
	t.Run("Twin", func(t *testing.T) { testTwin(t, place) })
}

// clock gives times a millisecond apart, so that two stores under the same calls
// say the same.
func clock() func() time.Time {
	var n atomic.Int64
	return func() time.Time { return time.UnixMilli(1_700_000_000_000 + n.Add(1)) }
}
