package postgres_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
	"github.com/homing-im/homing/region/store/postgres"
	"github.com/homing-im/homing/region/store/postgres/plain"
)

// BenchmarkCommit commits batches of five rows, as a message does, on a server
// whose fsync is one, from callers that each wait for their acknowledgement. The
// peer is the same written the plain way, on the same server: each owner's batch
// in a transaction of its own on one of 32 connections, with the sequence row
// locked first.
func BenchmarkCommit(b *testing.B) {
	needPostgres(b)
	pg, err := pgtest.New("")
	if err != nil {
		b.Fatal(err)
	}
	defer pg.Stop()
	if err := pg.Start(); err != nil {
		b.Fatal(err)
	}
	s, err := postgres.Open(postgres.Options{DSNs: []string{pg.DSN()}, Region: "sh", Partitions: 64})
	if err != nil {
		b.Fatal(err)
	}
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("engine/callers=%d", callers), func(b *testing.B) {
			run(b, callers, func(batch *store.Batch) error {
				_, err := s.Commit(ctx, batch)
				return err
			})
		})
	}
	closed(b, s)
	p, err := plain.Open(pg.DSN(), 64, 32)
	if err != nil {
		b.Fatal(err)
	}
	defer p.Close()
	for _, callers := range []int{1, 64, 1024} {
		b.Run(fmt.Sprintf("plain/callers=%d", callers), func(b *testing.B) { run(b, callers, func(batch *store.Batch) error { return p.Commit(ctx, batch) }) })
	}
}

var rowNumber atomic.Int64

func run(b *testing.B, callers int, commit func(*store.Batch) error) {
	value := make([]byte, 100)
	var next atomic.Int64
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				row := fmt.Appendf(nil, "%016d", rowNumber.Add(1))
				err := commit(&store.Batch{Owner: region.UIN(c + 1), Home: "sh", Writes: []store.Write{
					{Table: 101, Row: row, Value: value}, {Table: 102, Row: row, Value: value[:20]},
					{Table: 103, Row: []byte("head"), Value: value[:30]}, {Table: 104, Row: row, Value: value[:10]}, {Table: 201, Row: row[:4], Value: value[:8]},
				}})
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}
