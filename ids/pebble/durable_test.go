package pebble

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/homing-im/homing/region"
)

// TestNobodyHearsOfAClaimBeforeItsFsync holds the log's fsync back: neither the
// claimer nor a reader may be answered until it returned.
func TestNobodyHearsOfAClaimBeforeItsFsync(t *testing.T) {
	var holding atomic.Bool
	syncing, release := make(chan struct{}, 64), make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		sync := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		if sync && strings.HasSuffix(op.Path, ".log") && holding.Load() {
			syncing <- struct{}{}
			<-release
		}
		return nil
	}))
	s := mustOpen(t, Options{Dir: "ids", FS: fs})
	defer func() { _ = s.Close() }()

	holding.Store(true)
	claimed := make(chan error, 1)
	go func() {
		_, err := s.Claim(t.Context(), "alice", 1)
		claimed <- err
	}()
	<-syncing
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if c, err := s.Resolve(ctx, "alice"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a reader was told %+v, %v before the fsync", c, err)
	}
	if _, err := s.Resolve(t.Context(), "bob"); region.KindOf(err) != region.NotFound {
		t.Errorf("a reader of another handle: %v", err) // does not wait
	}
	select {
	case err := <-claimed:
		t.Errorf("the claimer was answered before the fsync: %v", err)
	default:
	}
	holding.Store(false)
	close(release)
	if err := <-claimed; err != nil {
		t.Fatal(err)
	}
	if c, err := s.Resolve(t.Context(), "alice"); err != nil || c.Owner != 1 {
		t.Errorf("after the fsync: %+v, %v", c, err)
	}
}
