package pebble_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	engine "github.com/cockroachdb/pebble/v2"

	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/pebble"
)

// BenchmarkNaive is the peer: callers that each commit a batch of their own to
// Pebble, four rows of 100 bytes, without journal, digest or precondition.
func BenchmarkNaive(b *testing.B) {
	for _, callers := range []int{256, 2048} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			db, err := engine.Open(b.TempDir(), &engine.Options{FormatMajorVersion: engine.FormatTableFormatV6, MemTableSize: 32 << 20, Logger: quiet{}})
			if err != nil {
				b.Fatal(err)
			}
			value := make([]byte, 100)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for c := range callers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						batch := db.NewBatch()
						for table := range 4 {
							_ = batch.Set(fmt.Appendf(nil, "%08d%d%016d", c, table, i), value, nil)
						}
						if err := errors.Join(batch.Commit(engine.Sync), batch.Close()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(4*b.N)/b.Elapsed().Seconds(), "rows/s")
			if err := db.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)           {}
func (quiet) Errorf(string, ...any)          {}
func (quiet) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

// BenchmarkCommit commits batches of five rows on the real disk, as a message
// does, from a number of callers that each wait for their acknowledgement.
func BenchmarkCommit(b *testing.B) {
	for _, callers := range []int{1, 16, 256, 2048} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, err := pebble.Open(pebble.Options{Dir: b.TempDir(), Region: "sh", Partitions: 64})
			if err != nil {
				b.Fatal(err)
			}
			value := make([]byte, 100)
			var next atomic.Int64
			waits := make([][]time.Duration, callers)
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			for c := range callers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						row := fmt.Appendf(nil, "%016d", i)
						start := time.Now()
						_, err := s.Commit(ctx, &store.Batch{Owner: region.UIN(c + 1), Home: "sh", Writes: []store.Write{
							{Table: 101, Row: row, Value: value}, {Table: 102, Row: row, Value: value[:20], Expect: store.Absent()},
							{Table: 103, Row: []byte("head"), Value: value[:30]}, {Table: 104, Row: row, Value: value[:10]}, {Table: 201, Row: row[:4], Value: value[:8]},
						}})
						if err != nil {
							b.Error(err)
							return
						}
						waits[c] = append(waits[c], time.Since(start))
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Concat(waits...)
			slices.Sort(all)
			b.ReportMetric(float64(5*b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
