package postgres_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/homing-im/homing/deploy/test/pgtest"
	"github.com/homing-im/homing/region"
	"github.com/homing-im/homing/region/store"
)

// smallDisk mounts one that the servers' user can reach. Only root can.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "homing-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=0755,size="+size, "none", dir).CombinedOutput(); err != nil {
		t.Skipf("no small disk can be mounted here: %v %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v %s", err, out)
		}
	})
	return dir
}

// TestFullDisk fills the server's disk under traffic: writes are refused, or wait
// for what becomes of them; nothing of what was acknowledged is lost, and with
// room again writes go on without the store being opened again.
func TestFullDisk(t *testing.T) {
	needPostgres(t)
	dir := smallDisk(t, "128m")
	pg, err := pgtest.New(dir, "max_wal_size = 64MB", "min_wal_size = 32MB")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Stop(); err != nil {
			t.Error(err)
		}
	})
	start(t, pg)
	o := options(pg.DSN())
	o.Patience = 300 * time.Millisecond
	s := open(t, o)

	// What a caller sends is random, so that no compression makes it small.
	value := make([]byte, 200<<10)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	put := func(ctx context.Context, u region.UIN, i int) error {
		_, err := s.Commit(ctx, &store.Batch{Owner: u, Home: "sh", Writes: []store.Write{
			{Table: table, Row: fmt.Append(nil, i), Value: append(fmt.Appendf(nil, "%d/%d ", u, i), value[i%1000:]...), Expect: store.Absent()},
		}})
		return err
	}
	const callers = 4
	acknowledged := make([][]int, callers)
	full := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	asking, cancel := context.WithCancel(ctx)
	for c := range callers {
		wg.Go(func() {
			for i := 0; ; i++ {
				err := put(asking, region.UIN(c+1), i)
				switch {
				case err == nil:
					acknowledged[c] = append(acknowledged[c], i)
					continue
				case region.KindOf(err) == region.Unavailable:
					once.Do(func() { close(full) })
				case asking.Err() == nil:
					t.Errorf("a full disk is answered %v", err)
				}
				return
			}
		})
	}
	select {
	case <-full:
	case <-time.After(2 * time.Minute):
		t.Error("the disk does not get full")
	}
	// The others may wait for the outcome of a transaction that the server died of,
	// or that cannot be settled while nobody gets a connection's worth of disk.
	settled := make(chan struct{})
	go func() { wg.Wait(); close(settled) }()
	enough := time.After(10 * time.Second)
waiting:
	for pg.Running() {
		select {
		case <-settled:
			break waiting
		case <-enough:
			break waiting
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Logf("with the disk full the server runs: %v", pg.Running())
	// More room, as an operator would make.
	if out, err := exec.Command("mount", "-o", "remount,size=512m", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if !pg.Running() {
		start(t, pg)
	}
	until(t, "writes to go on by themselves", func() bool { return put(ctx, 1000, 0) == nil })
	cancel()
	<-settled
	total := 0
	for c, rows := range acknowledged {
		total += len(rows)
		for _, i := range rows {
			r, err := s.Get(ctx, region.UIN(c+1), table, fmt.Append(nil, i))
			if err != nil || r.Version != 1 || !bytes.HasPrefix(r.Value, fmt.Appendf(nil, "%d/%d ", c+1, i)) {
				t.Errorf("row %d of %d was acknowledged, and is at version %d, %v", i, c+1, r.Version, err)
			}
		}
	}
	t.Logf("%d rows were acknowledged", total)
	if total == 0 {
		t.Error("nothing was acknowledged before the disk was full")
	}
	follow(t, s)
	closed(t, s)
}
